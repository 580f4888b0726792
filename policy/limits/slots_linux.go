package limits

import (
	"errors"
	"os"
	"syscall"
)

// mapFile makes a file and maps it into memory, its room reserved: a full disk shows here. nil where the file system cannot.
func mapFile(name string, size int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = syscall.EINTR
	for errors.Is(err, syscall.EINTR) {
		err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
	}
	if err == nil {
		var mem []byte
		if mem, err = syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED); err == nil {
			return mem, nil
		}
	}
	_ = os.Remove(name)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.ENODEV) {
		return nil, nil
	}
	return nil, err
}
