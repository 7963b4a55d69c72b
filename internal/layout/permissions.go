package layout

import "github.com/rccs-io/rccs/subjects"

// Permissions are what one role may publish and subscribe to, as NATS
// permission patterns. All else is denied.
//
// Where a pattern of Subscribe ends in "*", NATS lets a client end a
// subscription in ">" in that place, and so hear more than the pattern says:
// allow what ends in ">" or in a name, and say the rest in Unheard.
type Permissions struct {
	Publish   []string
	Subscribe []string
	// Unheard is not delivered although Subscribe covers it.
	Unheard []string
}

// ForDevice is what a device's own credential may do on plain NATS: hear its
// signals, call its own endpoints, and receive answers below its own prefix.
func ForDevice(k subjects.Key) Permissions {
	return Permissions{
		Publish:   []string{subjects.DeviceEndpoint(k, "*")},
		Subscribe: []string{subjects.Signal(k), subjects.ReplyPrefix(k) + ".>"},
	}
}

// ForService is what a backend service may do: publish to inboxes, routes,
// signals, requests and topics; read what devices send and what happens; call
// the coordinator, but not in the place of a device, see [subjects.DeviceEndpoint].
// Reading streams goes through JetStream's own API, for the three streams
// that services read; of the others it may purge the delayed messages. All of
// them leave the services' account by [ServiceImports].
//
// Reply subjects are those that NATS clients make when left alone: _INBOX.<id>,
// and _INBOX.<id>.<token>.
//
// A NATS client sends its token, with these lists in it, in one line of 4,096
// bytes at most, so the list has to stay short.
func ForService() Permissions {
	publish := append(AllInboxes(), // so that NATS tells who publishes to another lane
		"rccs.later.>", "rccs.route.*.*", "rccs.route.*.*.*",
		"rccs.signal.*.*", "rccs.rpc.*.*.*", topicsSaid, // a publish is looked at once it is mapped
		"rccs.coordinator.*", "$SRV.>", "_INBOX.*", "_INBOX.*.*",
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.FC.>",
		"$JS.API.STREAM.INFO."+subjects.StreamLater, "$JS.API.STREAM.PURGE."+subjects.StreamLater, // to cancel
	)
	for _, stream := range []string{subjects.StreamUp, subjects.StreamEvent, subjects.StreamTopic} {
		publish = append(publish,
			"$JS.API.STREAM.INFO."+stream, "$JS.API.DIRECT.GET."+stream, "$JS.API.DIRECT.GET."+stream+".>",
			"$JS.API.CONSUMER.CREATE."+stream, "$JS.API.CONSUMER.CREATE."+stream+".>",
			"$JS.API.CONSUMER.DURABLE.CREATE."+stream+".>", "$JS.API.CONSUMER.INFO."+stream+".>",
			"$JS.API.CONSUMER.NAMES."+stream, "$JS.API.CONSUMER.LIST."+stream,
			"$JS.API.CONSUMER.MSG.NEXT."+stream+".>", "$JS.API.CONSUMER.DELETE."+stream+".>",
			"$JS.ACK."+stream+".>")
	}
	return Permissions{
		Publish:   publish,
		Subscribe: []string{"rccs.topic.>", "rccs.up.>", "rccs.event.>", "$SRV.>", "_INBOX.>"},
		Unheard:   []string{"_INBOX.*.*.>"},
	}
}

// ForPart is what RCCS's own parts, edges and coordinators, may do inside
// their tenant's account: all of it.
func ForPart() Permissions {
	return Permissions{Publish: []string{">"}, Subscribe: []string{">"}}
}
