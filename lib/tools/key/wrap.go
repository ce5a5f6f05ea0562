package key

import (
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"preserve/lib/key"
	"preserve/lib/tool"
)

// work is how long one guess at a passphrase takes, if nothing else is said.
const work = 3 * time.Second

// fewest is how many characters a passphrase has about which nothing is said.
const fewest = 12

// askAgain is how often a person may type a passphrase wrong.
const askAgain = 3

// wrap writes a wrapped key to stdout. With said, time or memory are the user's words, and
// he may have little work, too.
func wrap(env *tool.Env, path string, d time.Duration, mib, fd int, said bool) error {
	switch {
	case d <= 0:
		return tool.Usagef("--time takes a time like 3s, 10m, 1h")
	case mib < 1 || mib > 2048:
		return tool.Usagef("--memory takes 1 to 2048 MiB")
	}
	cost := key.Cost{Memory: uint32(mib) << 10, Threads: key.DefaultThreads}
	k, err := load(env, path)
	if err != nil {
		return err
	}
	if kind := k.Kind(); kind != key.Master && kind != key.Read {
		env.Say("a %s key restores nothing: for the day when all is lost, wrap the master key or a read key", kind)
	}
	phrase, err := newPhrase(env, fd)
	if err != nil {
		return err
	}
	pass, err := cost.Pass()
	if err != nil {
		return err
	}
	cost = passes(cost, d, pass, said)
	env.Notice("%s", expect(cost, pass))
	b, err := k.Wrap(phrase, cost, time.Now())
	if err != nil {
		return err
	}
	if _, err := env.Stdout.Write(b); err != nil {
		return fmt.Errorf("write the wrapped key: %w", err)
	}
	env.Notice("wrapped %s", k.String())
	return nil
}

// passes returns cost with as many passes as take about d, if one takes pass; not fewer
// than key.LeastPasses, unless the user has said so.
func passes(cost key.Cost, d, pass time.Duration, said bool) key.Cost {
	cost = cost.For(d, pass)
	if !said {
		cost.Time = max(cost.Time, key.LeastPasses)
	}
	return cost
}

// expect says what a cost means on this machine.
func expect(c key.Cost, pass time.Duration) string {
	return fmt.Sprintf("passes: %d, memory: %d MiB: about %s on this machine", c.Time, c.Memory>>10,
		(pass * time.Duration(c.Time)).Round(100*time.Millisecond))
}

// newPhrase returns the passphrase for a new wrapped key: from a file descriptor,
// or one that is made, shown, and typed in to prove that it was written down.
func newPhrase(env *tool.Env, fd int) ([]byte, error) {
	if fd >= 0 {
		phrase, err := tool.ReadSecret(fd, key.MaxPhrase)
		if n := utf8.RuneCount(phrase); err == nil && n < fewest {
			env.Say("the passphrase has only %d characters: who gets the wrapped key may guess it (take %d or more, or let pv-key make one)", n, fewest)
		}
		return phrase, err
	}
	t, err := terminal()
	if err != nil {
		return nil, err
	}
	defer t.Close()
	phrase := key.NewPhrase()
	if err := t.Show("The passphrase is, and is never shown again:\n\n    %s\n\nWrite it down, then type it in.\n", phrase); err != nil {
		return nil, err
	}
	for range askAgain {
		typed, err := t.AskSecret("passphrase: ", env.OnExit)
		if err != nil {
			return nil, err
		}
		if key.SamePhrase(typed, phrase) {
			return phrase, nil
		}
		if err := t.Show("That is another one. Compare it with the words above.\n"); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the passphrase was not typed in as shown: no key was wrapped")
}

func terminal() (*tool.Terminal, error) {
	t, err := tool.OpenTerminal()
	if err != nil {
		return nil, &tool.Hint{Err: fmt.Errorf("passphrase: %w", err), Text: "give it with --passphrase-fd N, as in: --passphrase-fd 3 3<FILE"}
	}
	return t, nil
}

// unwrap reads a wrapped key from stdin and saves the key.
func unwrap(env *tool.Env, out string, fd int) error {
	stdin, err := env.Input()
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(stdin, key.MaxFile+1))
	if err != nil {
		return fmt.Errorf("read the wrapped key: %w", err)
	}
	w, err := key.ParseWrapped(b)
	if err != nil {
		return fmt.Errorf("stdin: %w", err)
	}
	k, err := open(env, w, fd)
	if err != nil {
		return fmt.Errorf("open the wrapped key: %w", err)
	}
	return save(env, k, out)
}

// A person is told how long opening takes if it is longer than this, and even with -q
// if it is far longer: a wrapped key may come from a store that wants to hold him up.
const (
	longWork    = 2 * time.Second
	endlessWork = time.Minute
	// measured is how much memory is measured, in KiB; the rest is reckoned from it.
	measured = 64 << 10
)

func open(env *tool.Env, w *key.Wrapped, fd int) (*key.Key, error) {
	small := w.Cost
	small.Memory = min(small.Memory, measured)
	pass, err := small.Pass()
	if err != nil {
		return nil, err
	}
	pass = pass * time.Duration(w.Memory) / time.Duration(small.Memory)
	switch all := pass * time.Duration(w.Time); {
	case all > endlessWork:
		env.Say("%s", expect(w.Cost, pass))
	case all > longWork:
		env.Notice("%s", expect(w.Cost, pass))
	}
	if fd >= 0 {
		phrase, err := tool.ReadSecret(fd, key.MaxPhrase)
		if err != nil {
			return nil, err
		}
		return w.Open(phrase)
	}
	t, err := terminal()
	if err != nil {
		return nil, err
	}
	defer t.Close()
	for n := 1; ; n++ {
		phrase, err := t.AskSecret("passphrase: ", env.OnExit)
		if err != nil {
			return nil, err
		}
		k, err := w.Open(phrase)
		if n == askAgain || !errors.Is(err, key.ErrPassphrase) && !errors.Is(err, key.ErrPhrase) {
			return k, err
		}
		if err := t.Show("%s: try again\n", err); err != nil {
			return nil, err
		}
	}
}
