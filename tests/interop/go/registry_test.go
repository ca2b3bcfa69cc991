package interop

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"detcd.dev/interop/cluster"
)

// TestRegistryWalkThrough types what docs/registry.md says into as many shells as it has terminals, and
// holds them to what it says they print. detcdctl and etcdctl take turns.
func TestRegistryWalkThrough(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "registry.md"))
	if err != nil {
		t.Fatal(err)
	}
	steps := readSteps(t, string(text))
	for _, one := range bothTools(t) {
		t.Run(one.name, func(t *testing.T) {
			c := cluster.Start(t, 3, cluster.Fast...)
			terminals := openTerminals(t, c, one)
			for _, step := range steps {
				terminal := terminals.named(t, step.terminal)
				if step.language == "sh" {
					terminal.enter(t, step.lines)
				} else {
					terminal.prints(t, step.lines)
				}
			}
			terminals.close(t)
		})
	}
}

// step is a block of the document: commands ("sh") or what they print ("text").
type step struct {
	language string
	terminal string
	lines    []string
}

func readSteps(t *testing.T, text string) []step {
	t.Helper()
	block := regexp.MustCompile("(?ms)^```(\\S*) ?(\\S*)\n(.*?)^```$")
	var steps []step
	commands := 0
	for _, found := range block.FindAllStringSubmatch(text, -1) {
		one := step{found[1], found[2], strings.Split(strings.TrimSuffix(found[3], "\n"), "\n")}
		if (one.language != "sh" && one.language != "text") || one.terminal == "" {
			t.Fatalf("a block of %q in terminal %q", one.language, one.terminal)
		}
		if one.language == "sh" {
			commands++
		}
		steps = append(steps, one)
	}
	if fences := strings.Count(text, "```"); fences != 2*len(steps) {
		t.Fatalf("%d fences for %d blocks", fences, len(steps))
	}
	if commands == 0 || commands == len(steps) {
		t.Fatalf("%d of %d blocks are commands", commands, len(steps))
	}
	return steps
}

// terminals are the shells of one walk through the document, which finds the tool as "detcdctl".
type terminals struct {
	environment []string
	open        map[string]*terminal
}

func openTerminals(t *testing.T, c *cluster.Cluster, one tool) *terminals {
	t.Helper()
	path, err := filepath.Abs(one.path)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Symlink(path, filepath.Join(folder, "detcdctl")); err != nil {
		t.Fatal(err)
	}
	return &terminals{
		environment: []string{
			"PATH=" + folder + ":" + os.Getenv("PATH"),
			"ETCDCTL_ENDPOINTS=" + strings.Join(c.Endpoints(), ","),
		},
		open: map[string]*terminal{},
	}
}

func (all *terminals) named(t *testing.T, name string) *terminal {
	t.Helper()
	if all.open[name] == nil {
		all.open[name] = openTerminal(t, name, all.environment)
	}
	return all.open[name]
}

// close ends every terminal; none may have printed more than the document says.
func (all *terminals) close(t *testing.T) {
	t.Helper()
	for _, one := range all.open {
		one.end()
		for line := range one.lines {
			t.Errorf("terminal %s prints also %q", one.name, line)
		}
	}
}

// terminal is a shell and what it prints.
type terminal struct {
	name  string
	shell *exec.Cmd
	stdin io.Writer
	lines chan string
}

func openTerminal(t *testing.T, name string, environment []string) *terminal {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	one := &terminal{name: name, shell: exec.Command("bash"), lines: make(chan string, 1000)}
	one.shell.Env = environment
	// Its whole group ends with it: a shell does not end what it has started.
	one.shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	one.shell.Stdout, one.shell.Stderr = write, write
	if one.stdin, err = one.shell.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := one.shell.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(one.end)
	go func() {
		defer close(one.lines)
		defer read.Close()
		for scanner := bufio.NewScanner(read); scanner.Scan(); {
			if !jobNote.MatchString(scanner.Text()) {
				one.lines <- scanner.Text()
			}
		}
	}()
	return one
}

// jobNote is how bash tells that a program in the background was killed.
var jobNote = regexp.MustCompile(`^bash: line \d+: +\d+ Killed `)

// end kills the shell and all that it has started.
func (one *terminal) end() {
	// It may have ended before, and then so has its group.
	_ = syscall.Kill(-one.shell.Process.Pid, syscall.SIGKILL)
	_ = one.shell.Wait()
}

func (one *terminal) enter(t *testing.T, lines []string) {
	t.Helper()
	if _, err := io.WriteString(one.stdin, strings.Join(lines, "\n")+"\n"); err != nil {
		t.Fatalf("terminal %s: %v", one.name, err)
	}
}

// leaseID is the only thing in the document that differs from run to run.
var leaseID = regexp.MustCompile(`\b[0-9a-f]{16}\b`)

// prints waits for the next lines.
func (one *terminal) prints(t *testing.T, want []string) {
	t.Helper()
	for i, line := range want {
		select {
		case got, open := <-one.lines:
			if !open {
				t.Fatalf("terminal %s ended before %q", one.name, line)
			}
			pattern := strings.Join(mapped(leaseID.Split(line, -1), regexp.QuoteMeta), "[0-9a-f]+")
			if !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
				t.Fatalf("terminal %s prints %q, not line %d of %q", one.name, got, i+1, want)
			}
		case <-time.After(2 * patience):
			t.Fatalf("terminal %s does not print line %d of %q", one.name, i+1, want)
		}
	}
}

func mapped(texts []string, f func(string) string) []string {
	var all []string
	for _, text := range texts {
		all = append(all, f(text))
	}
	return all
}
