package more

import (
	"context"
	"fmt"
	"testing"
)

// selects runs the loop of a worker whose work is always ready.
func selects(b *testing.B) {
	for _, goroutines := range []int{1, 8, 64} {
		loop := func(name string, body func(context.Context, int, chan struct{})) {
			name = fmt.Sprintf("select loop, threads=%d%s", goroutines, name)
			each(b, name, func(n int) {
				ctx, cancel := root()
				defer cancel()
				split(n, goroutines, func(n int) { body(ctx, n, make(chan struct{}, 1)) })
			})
		}
		loop(", done() once", func(ctx context.Context, n int, work chan struct{}) {
			done := ctx.Done()
			for i := 0; i < n; i++ {
				work <- struct{}{}
				select {
				case <-done:
					panic("done")
				case <-work:
				}
			}
		})
		loop(", done() each time", func(ctx context.Context, n int, work chan struct{}) {
			for i := 0; i < n; i++ {
				work <- struct{}{}
				select {
				case <-ctx.Done():
					panic("done")
				case <-work:
				}
			}
		})
	}
}
