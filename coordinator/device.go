package coordinator

func (c *Coordinator) deviceEndpoints() []*endpoint { return nil }
