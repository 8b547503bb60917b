package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openPTY returns the master side of a new terminal and the path of the other.
func openPTY(t *testing.T) (master *os.File, path string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 100}); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return master, fmt.Sprintf("/dev/pts/%d", n)
}

// untilEcho waits until the terminal shows what is typed, or does not.
func untilEcho(t *testing.T, master *os.File, want bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		state, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if (state.Lflag&unix.ECHO != 0) == want {
			return
		}
	}
	t.Fatalf("the terminal never had echo %t", want)
}

func TestAPassphraseIsNotShown(t *testing.T) {
	master, path := openPTY(t)
	keep, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0) // so that the terminal outlives the command
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	w := newWorld(t, "pub", "lobby")
	w.Terminal = path
	ended := make(chan int)
	go func() {
		ended <- toy(func(c *Call) error {
			p, err := c.Passphrase("a\x1b.id")
			c.Printf("%s", p)
			return err
		}).Run(t.Context(), w.Env)
	}()
	untilEcho(t, master, false)
	if _, err := master.WriteString("hush hush\n"); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 0 || w.out.String() != "hush hush" {
		t.Fatalf("exit %d, passphrase %q: %s", code, &w.out, &w.errs)
	}
	untilEcho(t, master, true)
	if _, err := keep.WriteString("end\n"); err != nil {
		t.Fatal(err)
	}
	shown, lines := "", bufio.NewReader(master)
	for !strings.Contains(shown, "end") {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		shown += line
	}
	if want := "Passphrase for a\\x1b.id: \r\nend\r\n"; shown != want {
		t.Errorf("the terminal shows %q, want %q", shown, want)
	}
}

func TestInterruptingThePromptBringsTheEchoBack(t *testing.T) {
	master, path := openPTY(t)
	keep, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	w := newWorld(t, "pub", "lobby")
	w.Terminal = path
	ctx, interrupt := interruptible(t.Context())
	ended := make(chan int)
	go func() {
		ended <- toy(func(c *Call) error {
			_, err := c.Passphrase("a.id")
			return err
		}).Run(ctx, w.Env)
	}()
	untilEcho(t, master, false)
	interrupt()
	if code := <-ended; code != 130 || w.errs.Len() > 0 {
		t.Errorf("exit %d: %s", code, &w.errs)
	}
	untilEcho(t, master, true)
	if _, err := master.WriteString("\n"); err != nil { // lets the reader go
		t.Fatal(err)
	}
}

func TestLongWorkShowsProgressOnATerminal(t *testing.T) {
	t.Parallel()
	master, path := openPTY(t)
	stderr, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	w := newWorld(t, "pub", "lobby")
	w.Stderr = stderr
	shown, noted := make(chan struct{}), make(chan struct{})
	ended := make(chan int)
	go func() {
		ended <- toy(func(c *Call) error {
			p := c.Progress("sending", 10)
			defer p.Close()
			p.Add(4)
			<-shown
			c.Note("a note meanwhile")
			<-noted
			return nil
		}).Run(t.Context(), w.Env)
	}()
	text, told := "", false
	for buf := make([]byte, 4096); !strings.Contains(text, "a note meanwhile"); {
		n, err := master.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		text += string(buf[:n])
		if !told && strings.Contains(text, "sending ") && strings.Contains(text, "4 / 10") {
			close(shown)
			told = true
		}
	}
	close(noted)
	if code := <-ended; code != 0 || w.out.Len() > 0 {
		t.Errorf("exit %d, output %q", code, &w.out)
	}
}

func TestShortWorkAndPipesShowNoProgress(t *testing.T) {
	w := newWorld(t, "pub", "lobby")
	code := toy(func(c *Call) error {
		p := c.ProgressBytes("sending", 0)
		p.SetTotal(5)
		p.Add(5)
		p.Close()
		p.Close()
		return nil
	}).Run(t.Context(), w.Env)
	if code != 0 || w.errs.Len() > 0 {
		t.Errorf("exit %d: %s", code, &w.errs)
	}
}

func TestATableThatIsTooWideForTheTerminalIsNotBroken(t *testing.T) {
	for _, tt := range []struct {
		name    string
		columns uint16
		want    string
	}{
		{"wide enough", 40, "NAME   ROOM        ROLE\r\nlobby  0123456789  owner\r\nops    abcdefghij\r\n"},
		{"too narrow", 20, "NAME  lobby\r\nROOM  0123456789\r\nROLE  owner\r\n\r\nNAME  ops\r\nROOM  abcdefghij\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			master, path := openPTY(t)
			if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: tt.columns}); err != nil {
				t.Fatal(err)
			}
			terminal, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer terminal.Close()
			w := newWorld(t, "pub", "lobby")
			w.Stdout = terminal
			code := toy(func(c *Call) error {
				c.Table([]string{"name", "room", "role"}, [][]string{{"lobby", "0123456789", "owner"}, {"ops", "abcdefghij", ""}})
				return nil
			}).Run(t.Context(), w.Env)
			have := make([]byte, len(tt.want))
			if _, err := io.ReadFull(master, have); err != nil || code != 0 || string(have) != tt.want {
				t.Errorf("exit %d, %v: %q, want %q", code, err, have, tt.want)
			}
		})
	}
}
