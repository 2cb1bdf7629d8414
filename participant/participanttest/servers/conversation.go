package servers

import (
	"context"
	"net"
	"time"
)

// answerTime bounds one question to a server that is starting.
const answerTime = 5 * time.Second

// converse connects to addr, talks, and closes the connection.
func converse(ctx context.Context, addr string, talk func(net.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	err = talk(conn)
	_ = conn.Close() // all is said
	return err
}
