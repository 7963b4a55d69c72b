package e2e_test

import (
	"bufio"
	"net"
	"net/http"
	"testing"
	"time"
)

// handshakeStatus sends a request by hand and returns the status of the answer,
// 400 when the server hangs up without one.
func handshakeStatus(t *testing.T, address, request string) int {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		_, _ = nc.Write([]byte(request)) // it may be refused before its end
		close(written)
	}()
	response, err := http.ReadResponse(bufio.NewReader(nc), nil)
	_ = nc.SetDeadline(time.Now())
	<-written
	if err != nil {
		return http.StatusBadRequest
	}
	_ = response.Body.Close()
	return response.StatusCode
}
