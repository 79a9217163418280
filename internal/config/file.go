package config

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
)

// FilePath is the path of a file that could be read when it was set.
type FilePath string

// Set takes a path; empty is none.
func (f *FilePath) Set(path string) error {
	if path != "" {
		if err := readable(path); err != nil {
			return fmt.Errorf("names a file that cannot be read: %w", err)
		}
	}
	*f = FilePath(path)
	return nil
}

func readable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return file.Close()
}

// readBounded returns the content of a file of at most maxBytes.
func readBounded(path string, maxBytes int64) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err != nil {
		return "", err
	}
	if int64(len(content)) > maxBytes {
		return "", fmt.Errorf("%s is larger than %d bytes", path, maxBytes)
	}
	return string(content), nil
}

// Address is where to listen, as host:port; empty: nowhere.
type Address string

// Set takes host:port. The host may be empty, the port is a number.
func (a *Address) Set(text string) error {
	if text != "" {
		_, port, err := net.SplitHostPort(text)
		if err != nil {
			return fmt.Errorf("is %s, which is not host:port", quote(text))
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("is %s, whose port is not from 0 to 65535", quote(text))
		}
	}
	*a = Address(text)
	return nil
}
