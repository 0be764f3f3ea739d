package more

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

const rounds = 40

// waking measures how soon goroutines run that wait for a context: after cancel, after a deadline.
func waking(b *testing.B) {
	for _, goroutines := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("wake-up, threads=%d", goroutines), func(b *testing.B) {
			var all, last []float64
			for i := 0; i < b.N*rounds; i++ {
				woken := wakeUps(goroutines)
				all = append(all, woken...)
				last = append(last, slices.Max(woken))
			}
			b.ReportMetric(quantile(all, 0.5), "median")
			b.ReportMetric(quantile(last, 0.5), "last")
		})
	}
	b.Run("deadline lateness", lateness)
	b.Run("deadline lateness, 100,000 live", func(b *testing.B) {
		for i := 0; i < 100_000; i++ {
			after := time.Hour + time.Duration(i)*time.Millisecond
			ctx, cancel := context.WithTimeout(context.Background(), after)
			doneSink = ctx.Done()
			defer cancel()
		}
		lateness(b)
	})
}

func wakeUps(goroutines int) []float64 {
	ctx, cancel := root()
	woken := make([]time.Time, goroutines)
	var begun, ended sync.WaitGroup
	for i := range woken {
		begun.Add(1)
		ended.Add(1)
		go func() {
			defer ended.Done()
			work := make(chan struct{})
			begun.Done()
			select {
			case <-ctx.Done():
			case <-work:
			}
			woken[i] = time.Now()
		}()
	}
	begun.Wait()
	time.Sleep(2 * time.Millisecond)
	start := time.Now()
	cancel()
	ended.Wait()
	took := make([]float64, goroutines)
	for i := range took {
		took[i] = float64(woken[i].Sub(start).Nanoseconds())
	}
	return took
}

func lateness(b *testing.B) {
	var late []float64
	early := 0
	for i := 0; i < b.N*80; i++ {
		// From 5 to 20 ms, in an order without a rhythm.
		timeout := time.Duration(5_000+i%80*7_919%15_000) * time.Microsecond
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		<-ctx.Done()
		deadline, _ := ctx.Deadline()
		lateness := time.Since(deadline)
		if lateness < 0 {
			early++
		}
		late = append(late, float64(max(lateness, 0).Nanoseconds()))
		cancel()
	}
	b.ReportMetric(quantile(late, 0.5), "median")
	b.ReportMetric(quantile(late, 0.99), "p99")
	b.ReportMetric(float64(early)/float64(b.N), "too_early")
}

func quantile(values []float64, part float64) float64 {
	slices.Sort(values)
	return values[int(float64(len(values)-1)*part+0.5)]
}
