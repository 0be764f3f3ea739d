package more

import (
	"context"
	"syscall"
	"testing"
	"time"
)

const cpuRun = 1_200 * time.Millisecond

// cpu measures the CPU time of a process that sets many deadlines.
func cpu(b *testing.B) {
	during := func(name string, run func()) {
		b.Run("CPU, "+name, func(b *testing.B) {
			before, start := processTime(), time.Now()
			for i := 0; i < b.N; i++ {
				run()
			}
			used := (processTime() - before).Seconds()
			b.ReportMetric(100*used/time.Since(start).Seconds(), "process")
		})
	}
	during("10,000 timeouts a second expire", func() { expire(10_000) })
	during("5,000 timeouts a second expire", func() { expire(5_000) })
	during("2,500 timeouts of 150 us a second, all cancelled", cancelInTime)
}

func processTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// expire starts timeouts of 20 ms whose deadlines are evenly spread over time.
func expire(aSecond int) {
	const timeout = 20 * time.Millisecond
	gap := time.Second / time.Duration(aSecond)
	start := time.Now()
	next := start
	var live []pair
	for next.Before(start.Add(cpuRun)) {
		now := time.Now()
		for !next.After(now) {
			ctx, cancel := context.WithDeadline(context.Background(), next.Add(timeout))
			doneSink = ctx.Done()
			live = append(live, pair{ctx, cancel})
			next = next.Add(gap)
		}
		for len(live) > 0 && live[0].ctx.Err() != nil {
			live[0].cancel()
			live = live[1:]
		}
		time.Sleep(time.Millisecond)
	}
}

func cancelInTime() {
	const timeout = 150 * time.Microsecond
	const gap = 400 * time.Microsecond
	start := time.Now()
	next := start
	for next.Before(start.Add(cpuRun)) {
		ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(timeout))
		doneSink = ctx.Done()
		cancel()
		next = next.Add(gap)
		time.Sleep(time.Until(next))
	}
}
