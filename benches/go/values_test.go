package more

import (
	"context"
	"fmt"
	"testing"
)

type number int

type stranger struct{}

func numbers(depth int) context.Context {
	ctx := context.Background()
	for i := 0; i < depth; i++ {
		ctx = context.WithValue(ctx, number(i), i)
	}
	return ctx
}

// values looks keys up; Go's own benchmarks only look up an absent key of the same type.
func values(b *testing.B) {
	for _, depth := range []int{10, 20, 30, 50, 100} {
		ctx := numbers(depth)
		name := fmt.Sprintf("DeepValueSameGoRoutine/depth=%d", depth)
		each(b, name+", far end", func(n int) {
			for i := 0; i < n; i++ {
				if ctx.Value(number(0)) == nil {
					panic("absent")
				}
			}
		})
		each(b, name+", other type", func(n int) {
			for i := 0; i < n; i++ {
				if ctx.Value(stranger{}) != nil {
					panic("present")
				}
			}
		})
	}
	each(b, "DeepValueNewGoRoutine/depth=100, on a thread that is kept", func(n int) {
		contexts := make(chan context.Context, 1)
		answers := make(chan bool, 1)
		go func() {
			for ctx := range contexts {
				answers <- ctx.Value(number(-1)) == nil
			}
		}()
		ctx := numbers(100)
		for i := 0; i < n; i++ {
			contexts <- ctx
			if !<-answers {
				panic("present")
			}
		}
		close(contexts)
	})
}
