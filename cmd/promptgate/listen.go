package main

import (
	"context"
	"errors"
	"fmt"
	"net"
)

func (a *App) listen(ctx context.Context) (err error) {
	var lc net.ListenConfig
	if a.cert, err = readCertificate(a.cfg.TLS, a.log); err != nil {
		return err
	}
	if a.main, err = lc.Listen(ctx, "tcp", a.cfg.Addr); err != nil {
		return fmt.Errorf("cannot listen on %s: %w; choose another with --addr", a.cfg.Addr, err)
	}
	a.onStop(func(context.Context) error { return ignoreClosed(a.main.Close()) })
	if a.cfg.OpsAddr == "" {
		return nil
	}
	if a.ops, err = lc.Listen(ctx, "tcp", a.cfg.OpsAddr); err != nil {
		return fmt.Errorf("cannot listen on %s: %w; choose another ops_addr", a.cfg.OpsAddr, err)
	}
	a.onStop(func(context.Context) error { return ignoreClosed(a.ops.Close()) })
	return nil
}

// loopback reports whether only this machine reaches a listener.
func loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
