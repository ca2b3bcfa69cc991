package cluster

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// process is one run of a program. The kernel kills it when this test process ends, however it
// ends: a panic or the timeout of `go test` leaves nothing behind.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the program has ended and been waited for
}

// launches is served by one goroutine on a thread of its own: the kernel's "kill the child when the
// parent dies" means the thread that started the child, so that thread must live as long as we do.
var launches = make(chan launch)

type launch struct {
	cmd   *exec.Cmd
	reply chan error
}

func init() {
	go func() {
		runtime.LockOSThread()
		for l := range launches {
			l.reply <- l.cmd.Start()
		}
	}()
}

// startProcess runs binary with args; stdout and stderr both go to output.
func startProcess(binary string, args []string, output *os.File) (*process, error) {
	cmd := exec.Command(binary, args...)
	cmd.Env = cleanEnvironment()
	cmd.Stdout = output
	cmd.Stderr = output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	reply := make(chan error)
	launches <- launch{cmd, reply}
	if err := <-reply; err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		// How it ended is read from cmd.ProcessState by whoever asks.
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// signal sends sig; a process that has ended already is no error.
func (p *process) signal(sig syscall.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// ended tells whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
