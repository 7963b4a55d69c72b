package backbone

import (
	"bytes"
	"net"
)

// handshakeWrites is how often a client writes before it has been let in: CONNECT,
// and the PING whose answer says whether it was.
const handshakeWrites = 2

// pipe is a client's end of an in-process connection. A [net.Pipe] holds nothing:
// a write returns when the other end has read it. A server that refuses the CONNECT
// writes its error and reads no more, so a client that is still writing its PING
// would never read the error, and both would wait for the server's write deadline of
// ten seconds. The writes of the handshake are therefore done in the background, one
// after the other; all later ones are the connection's own.
type pipe struct {
	net.Conn

	// Of the goroutine that writes.
	writes int
	before chan struct{} // closed when the write before is done
	err    error         // of the write before; read after before is closed
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.before != nil {
		<-p.before
		p.before = nil
		if p.err != nil {
			return 0, p.err
		}
	}
	if p.writes == handshakeWrites {
		return p.Conn.Write(b)
	}
	p.writes++
	done, b := make(chan struct{}), bytes.Clone(b)
	p.before = done
	go func() {
		defer close(done)
		_, p.err = p.Conn.Write(b)
	}()
	return len(b), nil
}
