package backbone

// Figures are what the server says of itself. They are zero while it does not
// run.
type Figures struct {
	JetStream  bool // it is on
	MetaLeader bool // this server decides where streams lie; one server alone does
	StoreBytes uint64
	StoreLimit int64
	APIRequests, APIErrors,
	Clients, SlowConsumers uint64
}

// Figures may be asked for at any time. It does no I/O.
func (s *Server) Figures() Figures {
	srv := s.running()
	if srv == nil {
		return Figures{}
	}
	f := Figures{
		JetStream: srv.JetStreamEnabled(), StoreLimit: s.StoreLimit(),
		Clients: uint64(max(srv.NumClients(), 0)), SlowConsumers: uint64(max(srv.NumSlowConsumers(), 0)),
	}
	f.MetaLeader = f.JetStream && (!s.Clustered() || srv.JetStreamIsLeader())
	if info, err := srv.Jsz(nil); err == nil {
		f.StoreBytes, f.APIRequests, f.APIErrors = info.Store, info.API.Total, info.API.Errors
	}
	return f
}

// DiskSpace is what the disk of a directory has left, and how large it is.
func DiskSpace(dir string) (free, total uint64, err error) { return diskSpace(dir) }
