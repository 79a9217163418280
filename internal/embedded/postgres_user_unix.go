//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// account is the user that a server runs as.
type account struct {
	name     string
	uid, gid int
	// foreign is true when it is not our own user, which only root can choose.
	foreign bool
}

// serverAccount returns our own user or, since Postgres refuses to run as root,
// where we are root the owner of the cluster in dataDir, else postgres, else
// nobody.
func serverAccount(dataDir string) (account, error) {
	uid := os.Geteuid()
	owner, err := ownerOf(dataDir)
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return account{}, err
	}
	if uid != 0 {
		if exists && owner != uid {
			return account{}, fmt.Errorf("%s belongs to user id %d and we are user id %d: run as its owner, or choose another data directory", dataDir, owner, uid)
		}
		return account{name: strconv.Itoa(uid), uid: uid, gid: os.Getegid()}, nil
	}
	if exists {
		if owner == 0 {
			return account{}, fmt.Errorf("%s belongs to root, and Postgres refuses to run as root: change its owner", dataDir)
		}
		u, err := user.LookupId(strconv.Itoa(owner))
		if err != nil {
			return account{}, fmt.Errorf("finding the owner of %s: %w", dataDir, err)
		}
		return foreignAccount(u)
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return foreignAccount(u)
		}
	}
	return account{}, errors.New("Postgres refuses to run as root, and there is no user postgres or nobody to run it as: create one, or run as another user")
}

func foreignAccount(u *user.User) (account, error) {
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return account{}, fmt.Errorf("reading the ids of user %s: %w", u.Username, err)
	}
	return account{name: u.Username, uid: uid, gid: gid, foreign: true}, nil
}

// give makes the account the owner of path.
func (a account) give(path string) error {
	if !a.foreign {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// openUp lets the account, and nobody else, pass through dir on the way to what
// it owns below. A directory that is not root's alone is left as it is.
func (a account) openUp(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, err := ownerOf(dir)
	if err != nil || owner != 0 || info.Mode().Perm() != 0o700 {
		return err
	}
	if err := os.Chown(dir, 0, a.gid); err != nil {
		return err
	}
	return os.Chmod(dir, 0o710)
}

// attributes start a process as the account, in a process group of its own so
// that Ctrl-C on the terminal reaches only us. onDeath is sent to it when we are
// killed, where the platform can do that.
func (a account) attributes(onDeath syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.foreign {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	dieWithParent(attr, onDeath)
	return attr
}

// checkReach returns an error that names the obstacle and the remedy when the
// account cannot enter dir.
func (a account) checkReach(ctx context.Context, dir string) error {
	if !a.foreign {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	// Asked of the kernel, which alone knows of access lists and mounts.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `cd -- "$0"`, dir)
	cmd.SysProcAttr = a.attributes(syscall.SIGKILL)
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("checking that user %s can enter %s: %w", a.name, dir, context.Cause(ctx))
	}
	if _, refused := errors.AsType[*exec.ExitError](err); !refused {
		return fmt.Errorf("running a process as user %s, since Postgres refuses to run as root: %w", a.name, err)
	}
	return fmt.Errorf("Postgres refuses to run as root, so it runs as user %s, who cannot enter %s: choose a directory elsewhere (for example below /var/lib), or allow it with: chmod o+x %s",
		a.name, dir, a.obstacle(dir))
}

// obstacle is the topmost directory on the way to dir that others cannot enter.
func (a account) obstacle(dir string) string {
	closed := dir
	for {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 {
			if owner, err := ownerOf(dir); err != nil || owner != a.uid {
				closed = dir
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return closed
		}
		dir = parent
	}
}

func ownerOf(path string) (int, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("the owner of %s is unknown", path)
	}
	return int(stat.Uid), nil
}
