package seal

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	keySize        = 32
	masterFileName = "master.key"
)

// master is the key that seals the data keys.
type master struct {
	secret []byte
	id     string // tells two master keys apart and nothing else about them
	aead   tink.AEAD
}

func newMaster(secret []byte) (*master, error) {
	a, err := subtle.NewXChaCha20Poly1305(derive(secret, "promptgate/master/seal"))
	if err != nil {
		return nil, fmt.Errorf("seal: master key: %w", err)
	}
	id := derive(secret, "promptgate/master/id")
	return &master{secret: secret, id: base64.RawURLEncoding.EncodeToString(id[:12]), aead: a}, nil
}

// parseMaster reads 32 bytes written in base64, of either alphabet, padded or not. Its errors do not repeat the text.
func parseMaster(text string) ([]byte, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "=")
	text = strings.NewReplacer("-", "+", "_", "/").Replace(text)
	secret, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(secret) != keySize {
		return nil, errors.New("the master key must be 32 bytes in base64 (make one with: openssl rand -base64 32)")
	}
	return secret, nil
}

func readMaster(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	secret, err := parseMaster(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return secret, nil
}

// createMaster writes a new key to path, or returns the one that another process has written meanwhile. The file appears
// whole or not at all, and is on the disk before anything is sealed by it.
func createMaster(path string) (secret []byte, created bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, false, err
	}
	secret = make([]byte, keySize)
	if _, err := rand.Read(secret); err != nil {
		return nil, false, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".master-*") // mode 0600
	if err != nil {
		return nil, false, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(base64.StdEncoding.EncodeToString(secret) + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, false, err
	}
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		secret, err = readMaster(path)
		return secret, false, err
	} else if err != nil {
		return nil, false, err
	}
	return secret, true, syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
