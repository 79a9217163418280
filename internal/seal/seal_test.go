package seal

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func newKeyring(t interface{ Fatal(...any) }, fills ...byte) *Keyring {
	var keys [][]byte
	for _, fill := range fills {
		keys = append(keys, bytes.Repeat([]byte{fill}, KeyBytes))
	}
	b, err := New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What was sealed opens for the same thing, and for no other; with the same
// key, and no other; and only as it was.
func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	b, other := newKeyring(t, 1), newKeyring(t, 2)
	rapid.Check(t, func(t *rapid.T) {
		about, secret := rapid.String().Draw(t, "about"), rapid.String().Draw(t, "secret")
		sealed, err := b.Seal(about, secret)
		if err != nil {
			t.Fatal(err)
		}
		if HoldsSecret(sealed) != (secret != "") {
			t.Errorf("a sealed secret of %d bytes holds one: %t", len(secret), HoldsSecret(sealed))
		}
		if len(secret) > 3 && bytes.Contains(sealed, []byte(secret)) {
			t.Error("the secret can be read")
		}
		if got, err := b.Open(about, sealed); err != nil || got != secret {
			t.Errorf("opened as %q, %v", got, err)
		}
		if _, err := b.Open(about+"x", sealed); !errors.Is(err, ErrCorrupt) {
			t.Errorf("opened for another thing: %v", err)
		}
		if _, err := other.Open(about, sealed); !errors.Is(err, ErrOtherKey) {
			t.Errorf("opened with another key: %v", err)
		}
		changed := bytes.Clone(sealed)
		changed[rapid.IntRange(0, len(changed)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		if _, err := b.Open(about, changed); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrOtherKey) {
			t.Errorf("opened though it was changed: %v", err)
		}
		if _, err := b.Open(about, sealed[:rapid.IntRange(0, len(sealed)-1).Draw(t, "length")]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("opened though it was cut: %v", err)
		}
		if again, err := b.Seal(about, secret); err != nil || bytes.Equal(again, sealed) {
			t.Errorf("sealed twice alike: %v", err)
		}
	})
}

// After a rotation what the old key sealed opens, and is sealed anew once.
func TestRotation(t *testing.T) {
	t.Parallel()
	old, both, fresh := newKeyring(t, 1), newKeyring(t, 2, 1), newKeyring(t, 2)
	sealed, err := old.Seal("a", "secret")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := both.Open("a", sealed); err != nil || got != "secret" {
		t.Errorf("opened as %q, %v", got, err)
	}
	if _, err := both.Open("b", sealed); !errors.Is(err, ErrCorrupt) {
		t.Errorf("opened for another thing: %v", err)
	}
	again, err := both.Reseal("a", sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fresh.Open("a", again); err != nil || got != "secret" {
		t.Errorf("sealed anew it opens as %q, %v", got, err)
	}
	if _, err := old.Open("a", again); !errors.Is(err, ErrOtherKey) {
		t.Errorf("the old key opens it: %v", err)
	}
	if once, err := both.Reseal("a", again); once != nil || err != nil {
		t.Errorf("sealed anew twice: %v", err)
	}
	if _, err := fresh.Reseal("a", sealed); !errors.Is(err, ErrOtherKey) {
		t.Errorf("sealed anew without the old key: %v", err)
	}
	if _, err := both.Reseal("b", sealed); !errors.Is(err, ErrCorrupt) {
		t.Errorf("sealed anew for another thing: %v", err)
	}
	if _, err := (*Keyring)(nil).Reseal("a", sealed); !errors.Is(err, ErrNoKey) {
		t.Errorf("sealed anew without a key: %v", err)
	}
}

func TestNoKey(t *testing.T) {
	t.Parallel()
	b, err := New()
	if err != nil || b != nil {
		t.Fatal(b, err)
	}
	if _, err := b.Seal("a", "b"); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	if _, err := b.Open("a", []byte("b")); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	if _, err := New([]byte("short")); err == nil {
		t.Error("a short key was taken")
	}
}

func TestAbout(t *testing.T) {
	t.Parallel()
	if ModelKey(`a" at "b`, "c", "") == ModelKey("a", `b" at "c`, "") || ModelKey("a", `b" with "c`, "") == ModelKey("a", "b", "c") {
		t.Error("two models have the same text")
	}
}
