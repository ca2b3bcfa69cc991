package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
)

// task is a cluster.T outside of `go test`: it remembers what to clean up and whether something
// failed. What is fatal ends the function that try runs, nothing else.
type task struct {
	ctx context.Context

	mutex    sync.Mutex
	failed   bool
	cleanups []func()
}

// fatal is what a task panics with.
type fatal struct{ error }

// try runs a function and gives what was fatal to it.
func (t *task) try(f func()) (err error) {
	defer func() {
		switch panicked := recover().(type) {
		case nil:
		case fatal:
			err = panicked.error
		default:
			panic(panicked)
		}
	}()
	f()
	return nil
}

func (t *task) cleanUp() {
	t.mutex.Lock()
	cleanups := t.cleanups
	t.cleanups = nil
	t.mutex.Unlock()
	for _, f := range slices.Backward(cleanups) {
		f()
	}
}

func (t *task) Helper() {}

func (t *task) Context() context.Context { return t.ctx }

func (t *task) Cleanup(f func()) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.cleanups = append(t.cleanups, f)
}

func (t *task) Failed() bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.failed
}

func (t *task) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "launcher: "+format+"\n", args...)
}

func (t *task) Errorf(format string, args ...any) {
	t.mutex.Lock()
	t.failed = true
	t.mutex.Unlock()
	t.Logf(format, args...)
}

func (t *task) Fatal(args ...any) { t.fail(errors.New(fmt.Sprint(args...))) }

func (t *task) Fatalf(format string, args ...any) { t.fail(fmt.Errorf(format, args...)) }

func (t *task) fail(err error) {
	t.mutex.Lock()
	t.failed = true
	t.mutex.Unlock()
	panic(fatal{err})
}
