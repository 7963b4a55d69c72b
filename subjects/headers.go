package subjects

// Headers of a stored message. The body is the payload; these carry the rest
// of the envelope.
const (
	HeaderID          = "Rccs-Id"
	HeaderType        = "Rccs-Type"
	HeaderFrom        = "Rccs-From" // the sending device; absent on what a service published
	HeaderCorrelation = "Rccs-Correlation"
	HeaderCollapse    = "Rccs-Collapse"
	HeaderTTL         = "Rccs-Ttl-Ms"
	HeaderTimestamp   = "Rccs-Timestamp"
	HeaderAck         = "Rccs-Ack"
	HeaderTrace       = "traceparent"
)
