package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/internal/durable"
)

// passphraseFileVariable names the file that a passphrase is read from where
// nobody is there to type it.
const passphraseFileVariable = "UNIBUS_PASSPHRASE_FILE"

// maxPassphrase bounds a passphrase, in bytes.
const maxPassphrase = 1 << 10

// Passphrase returns the passphrase that opens what, such as "alice.id": from
// the file descriptor of --passphrase-fd, else the file that
// UNIBUS_PASSPHRASE_FILE names, else by asking at the terminal. Of a file the
// first line counts; of the descriptor the next line for every other what. An
// error has [bus.CodePassphrase], or [bus.CodeFileMode] for a file others can
// read. It is asked once a run: later calls for the same thing get the same
// answer.
func (c *Call) Passphrase(what string) (string, error) {
	if p, ok := c.frame.remembered(what); ok {
		return p, nil
	}
	p, ok, err := c.givenPassphrase()
	if !ok && err == nil {
		p, err = c.ask("Passphrase for " + what + ": ")
	}
	if err == nil {
		c.frame.remember(what, p)
	}
	return p, err
}

func (f *frame) remembered(what string) (passphrase string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	passphrase, ok = f.passphrases[what]
	return passphrase, ok
}

func (f *frame) remember(what, passphrase string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passphrases[what] = passphrase
}

// NewPassphrase returns a passphrase to lock what with. It comes from where
// [Call.Passphrase] takes it, and is asked for twice at a terminal. An empty
// one typed there is returned as such: it is for the command to say whether
// that means no passphrase.
func (c *Call) NewPassphrase(what string) (string, error) {
	if p, ok, err := c.givenPassphrase(); ok || err != nil {
		return p, err
	}
	return c.askTwice(what)
}

// ReplacingPassphrase returns a passphrase to lock what with from now on: the
// first line of file if that is not empty, else the next line of
// --passphrase-fd, else it is asked for twice. UNIBUS_PASSPHRASE_FILE has the
// one that is replaced. Empty ones and errors are as with [Call.NewPassphrase].
func (c *Call) ReplacingPassphrase(what, file string) (string, error) {
	switch {
	case file != "":
		return readPassphraseFile(file, file)
	case c.Int(flagPassphraseFD) >= 0:
		p, _, err := c.givenPassphrase()
		return p, err
	}
	return c.askTwice(what)
}

func (c *Call) askTwice(what string) (string, error) {
	first, err := c.ask("New passphrase for " + what + ": ")
	if err != nil {
		return "", err
	}
	second, err := c.ask("The same again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", WithHint(bus.Errorf(bus.CodePassphrase, "read passphrase: the two are not the same"), "type it again")
	}
	return first, nil
}

// PassphraseGiven reports whether a passphrase comes without asking anybody.
func (c *Call) PassphraseGiven() bool {
	return c.Int(flagPassphraseFD) >= 0 || c.Env.Getenv(passphraseFileVariable) != ""
}

// givenPassphrase reads the passphrase from where the user said; ok is false
// if they did not.
func (c *Call) givenPassphrase() (passphrase string, ok bool, err error) {
	if fd := c.Int(flagPassphraseFD); fd >= 0 {
		in, err := c.frame.descriptor(fd)
		if err == nil {
			passphrase, err = firstLine(in)
		}
		return passphrase, err == nil, err
	}
	path := c.Env.Getenv(passphraseFileVariable)
	if path == "" {
		return "", false, nil
	}
	passphrase, err = readPassphraseFile(passphraseFileVariable, path)
	return passphrase, err == nil, err
}

// descriptor returns a file descriptor that the process was given as a reader.
// It stays open, since later lines may be other passphrases.
func (f *frame) descriptor(fd int) (io.Reader, error) {
	if fd == 0 {
		return f.env.Stdin, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if file, ok := f.descriptors[fd]; ok {
		return file, nil
	}
	if err := checkInherited(fd); err != nil {
		return nil, bus.Errorf(bus.CodePassphrase, "read passphrase: file descriptor %d: %w", fd, err)
	}
	file := os.NewFile(uintptr(fd), fmt.Sprintf("file descriptor %d", fd))
	if file == nil {
		return nil, Usagef("--passphrase-fd %d is no file descriptor", fd)
	}
	f.descriptors[fd] = file
	return file, nil
}

// readPassphraseFile reads the first line of a file that only its owner can
// read; from is what errors call it.
func readPassphraseFile(from, path string) (string, error) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() { // pipes of a shell have modes that mean nothing
		err = durable.CheckPrivate(path)
	}
	if err != nil {
		return "", bus.Errorf(passphraseCode(err), "read %s: %w", from, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", bus.Errorf(bus.CodePassphrase, "read %s: %w", from, err)
	}
	defer f.Close()
	return firstLine(f)
}

// passphraseCode keeps the code of a file with a wrong mode; whatever else is
// the matter, there is no passphrase.
func passphraseCode(err error) bus.Code {
	if errors.Is(err, bus.ErrFileMode) {
		return bus.CodeFileMode
	}
	return bus.CodePassphrase
}

// firstLine reads a passphrase and not a byte beyond its line, since the same
// descriptor may carry other things. An empty one is an error: nobody goes to
// the length of giving a file to say that there is no passphrase.
func firstLine(r io.Reader) (string, error) {
	var line bytes.Buffer
	for one := make([]byte, 1); line.Len() <= maxPassphrase; {
		n, err := r.Read(one)
		if n == 1 && one[0] != '\n' {
			line.WriteByte(one[0])
			continue
		}
		if n == 1 || err == io.EOF {
			passphrase := bytes.TrimSuffix(line.Bytes(), []byte("\r"))
			if len(passphrase) == 0 {
				return "", bus.Errorf(bus.CodePassphrase, "read passphrase: the first line is empty")
			}
			return string(passphrase), nil
		}
		if err != nil {
			return "", bus.Errorf(bus.CodePassphrase, "read passphrase: %w", err)
		}
	}
	return "", bus.Errorf(bus.CodePassphrase, "read passphrase: it is longer than %d bytes", maxPassphrase)
}

// ask reads a line at the controlling terminal, which is not standard input
// when messages are piped in, without showing it.
func (c *Call) ask(prompt string) (string, error) {
	if c.Env.Terminal == "" {
		return "", bus.Errorf(bus.CodePassphrase, "read passphrase: there is no terminal to ask at")
	}
	tty, err := os.OpenFile(c.Env.Terminal, os.O_RDWR, 0)
	if err != nil {
		return "", bus.Errorf(bus.CodePassphrase, "read passphrase: there is no terminal to ask at")
	}
	defer tty.Close()
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", bus.Errorf(bus.CodePassphrase, "read passphrase: %s is no terminal", c.Env.Terminal)
	}
	if _, err := fmt.Fprint(tty, Printable(prompt)); err != nil {
		return "", bus.Errorf(bus.CodePassphrase, "read passphrase: %w", err)
	}
	type result struct {
		line []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		done <- result{line, err}
	}()
	var got result
	select {
	case got = <-done:
	case <-c.Done():
		// The read cannot be woken; the process is about to end and must not
		// leave a terminal that shows nothing.
		got.err = errors.Join(c.Err(), term.Restore(fd, state))
	}
	_, lineErr := fmt.Fprintln(tty) // the user's own Enter was not shown
	if err := errors.Join(got.err, lineErr); err != nil {
		return "", bus.Errorf(bus.CodePassphrase, "read passphrase: %w", err)
	}
	return string(got.line), nil
}
