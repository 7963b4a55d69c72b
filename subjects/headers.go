package subjects

// Headers of a stored message. The body is the payload; these carry the rest
// of the envelope.
const (
	HeaderID          = "Rccs-Id"
	HeaderType        = "Rccs-Type"
	HeaderFrom        = "Rccs-From" // the sending device, or service:NAME over HTTP; absent on what a service published over NATS
	HeaderCorrelation = "Rccs-Correlation"
	HeaderCollapse    = "Rccs-Collapse"
	HeaderTTL         = "Rccs-Ttl-Ms"
	HeaderTimestamp   = "Rccs-Timestamp"
	HeaderAck         = "Rccs-Ack"
	HeaderTrace       = "traceparent"
	HeaderPriority    = "Rccs-Priority" // the lane, 0 to 3, where the subject has none: of a route or a signal
	HeaderUser        = "Rccs-User"     // of a topic's message: the user of the sending device
	// HeaderRedelivered is "true" on what may have been stored, and delivered, before.
	HeaderRedelivered = "Rccs-Redelivered"
)

// Headers of requests and responses between edges, and to services.
const (
	HeaderPartial = "Rccs-Partial"    // "true": more parts of the response follow
	HeaderTimeout = "Rccs-Timeout-Ms" // how long the requester waits for the next part
	HeaderCancel  = "Rccs-Cancel"     // the id of a request that is given up
	HeaderError   = "Rccs-Error"      // an error code of the protocol
)
