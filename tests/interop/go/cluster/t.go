package cluster

import "context"

// T is what this package asks of whoever runs a cluster. A testing.TB is one; the launcher has its own.
// Fatal and Fatalf do not return.
type T interface {
	Helper()
	Context() context.Context
	Cleanup(f func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}
