package node

import (
	"net"
	"syscall"
	"testing"

	"github.com/rccs-io/rccs/internal/testkit"
)

// Only the pings of the protocol, as often as the device wants them, go to a device
// that does nothing.
func TestTheKernelDoesNotProbeADevice(t *testing.T) {
	t.Parallel()
	l, err := listenForDevices(t.Context(), "127.0.0.1:0")
	testkit.Check(t, err)
	defer l.Close()
	var d net.Dialer
	device, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	testkit.Check(t, err)
	defer device.Close()
	accepted, err := l.Accept()
	testkit.Check(t, err)
	defer accepted.Close()
	raw, err := accepted.(syscall.Conn).SyscallConn()
	testkit.Check(t, err)
	probed := -1
	testkit.Check(t, raw.Control(func(fd uintptr) {
		probed, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
	}))
	testkit.Check(t, err)
	if probed != 0 {
		t.Error("the kernel sends keep-alive probes to a device")
	}
}
