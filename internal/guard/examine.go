package guard

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/rccs-io/rccs/internal/layout"
	"github.com/rccs-io/rccs/internal/reader"
)

// refusal is an error as JetStream gives it.
type refusal struct {
	status, code int
	text         string
}

func refuse(format string, args ...any) *refusal {
	return &refusal{400, 10003, fmt.Sprintf(format, args...)} // bad request
}

// answer returns the body of an answer of this kind, with the error.
func (r *refusal) answer(kind string) []byte {
	body, err := json.Marshal(map[string]any{
		"type":  "io.nats.jetstream.api.v1." + kind,
		"error": map[string]any{"code": r.status, "err_code": r.code, "description": r.text},
	})
	if err != nil {
		return nil // strings and numbers always are JSON
	}
	return body
}

// answerOf returns the type of the answer to a request.
func answerOf(api []string) string {
	return strings.ToLower(strings.Join(api[:min(2, len(api))], "_")) + "_response"
}

// examine checks a request. It returns the type of the answer, and either the body to
// ask JetStream with or the reason why the request is refused.
func examine(api []string, body []byte) (kind string, pass []byte, refused *refusal) {
	what := strings.Join(api[:min(2, len(api))], ".")
	kind = answerOf(api)
	switch what {
	case "CONSUMER.INFO", "CONSUMER.DELETE":
		if namesOurs(api) {
			return kind, nil, &refusal{404, 10014, "consumer not found"}
		}
		return kind, nil, nil // all of it is in the subject
	case "CONSUMER.LIST", "CONSUMER.NAMES":
		return kind, body, nil
	case "CONSUMER.CREATE", "CONSUMER.DURABLE":
		kind = "consumer_create_response"
		if namesOurs(api) {
			return kind, nil, refuse("names that begin with %s are taken by RCCS: choose another", reader.ConsumerPrefix)
		}
		pass, refused = examineConsumer(api, body)
		return kind, pass, refused
	case "STREAM.PURGE":
		pass, refused = examinePurge(body)
		return "stream_purge_response", pass, refused
	}
	return "error_response", nil, refuse("this is not offered to services")
}

// What a service may say of a consumer: all that its clients need, and nothing
// that names a subject of RCCS or escapes a limit, as direct does.
var (
	createFields   = fields("stream_name", "config", "action", "pedantic")
	consumerFields = fields(
		"name", "durable_name", "description", "metadata", "deliver_policy", "opt_start_seq", "opt_start_time", "ack_policy", "ack_wait",
		"max_deliver", "backoff", "filter_subject", "filter_subjects", "replay_policy", "rate_limit_bps", "sample_freq", "max_waiting",
		"max_ack_pending", "headers_only", "max_batch", "max_expires", "max_bytes", "inactive_threshold", "num_replicas", "mem_storage",
		"deliver_subject", "deliver_group", "flow_control", "idle_heartbeat", "priority_groups", "priority_policy", "priority_timeout",
		"pause_until",
	)
	purgeFields = fields("filter", "seq", "keep")
)

func fields(names ...string) map[string]bool {
	all := make(map[string]bool, len(names))
	for _, name := range names {
		all[name] = true
	}
	return all
}

// examineConsumer makes a push consumer deliver where only services hear it. What the
// subject names, the body must name the same.
func examineConsumer(api []string, body []byte) ([]byte, *refusal) {
	request, refused := object(body, createFields)
	if refused != nil {
		return nil, refused
	}
	config, refused := object(request["config"], consumerFields)
	if refused != nil {
		return nil, refused
	}
	stream, name := consumerOf(api)
	for _, one := range []struct {
		of    map[string]json.RawMessage
		field string
		want  string // empty: the subject does not say
	}{{request, "stream_name", stream}, {config, "name", name}, {config, "durable_name", name}} {
		got, refused := text(one.of, one.field)
		switch {
		case refused != nil:
			return nil, refused
		case got == "":
		case isOurs(got):
			return nil, refuse("names that begin with %s are taken by RCCS: choose another", reader.ConsumerPrefix)
		case one.want != "" && got != one.want:
			return nil, refuse("%s is %q, and %q in the subject: name one", one.field, got, one.want)
		}
	}
	subject, refused := text(config, "deliver_subject")
	if refused != nil {
		return nil, refused
	}
	if subject != "" {
		inner, ok := layout.Deliver(subject)
		if !ok {
			return nil, refuse("a service's consumer can only deliver below _INBOX, where its clients listen: leave deliver_subject out, or make one with the client's new inbox")
		}
		config["deliver_subject"], _ = json.Marshal(inner) // a string
	}
	var err error
	if request["config"], err = json.Marshal(config); err == nil {
		body, err = json.Marshal(request)
	}
	if err != nil {
		return nil, refuse("not a request to create a consumer: %v", err)
	}
	return body, nil
}

// consumerOf returns the stream and the consumer that the subject of a request to
// create one names. The name is empty if JetStream is to choose it.
func consumerOf(api []string) (stream, name string) {
	rest := api[2:] // CONSUMER.CREATE
	if api[1] == "DURABLE" {
		rest = api[min(3, len(api)):] // CONSUMER.DURABLE.CREATE
	}
	if len(rest) > 0 {
		stream = rest[0]
	}
	if len(rest) > 1 {
		name = rest[1]
	}
	return stream, name
}

// text returns a field that is a string; empty if it is absent.
func text(of map[string]json.RawMessage, field string) (value string, refused *refusal) {
	raw, ok := of[field]
	if !ok {
		return "", nil
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		return "", refuse("%s is not a string", field)
	}
	return value, nil
}

// examinePurge accepts a purge that cancels delayed messages of one user, and none of
// more.
func examinePurge(body []byte) ([]byte, *refusal) {
	request, refused := object(body, purgeFields)
	if refused != nil {
		return nil, refused
	}
	filter, refused := text(request, "filter")
	if refused != nil {
		return nil, refused
	}
	if !layout.IsCancel(filter) {
		return nil, refuse("name what to cancel: give a filter, rccs.later.USER.DEVICE.LANE.ID or, for more of a user's, with * in the place of what comes behind USER")
	}
	pass, err := json.Marshal(request)
	if err != nil {
		return nil, refuse("not a request to purge: %v", err)
	}
	return pass, nil
}

// object decodes an object that has no fields but the allowed ones, spelled as they
// are: JetStream, like Go, would take a name in any case.
func object(body []byte, allowed map[string]bool) (map[string]json.RawMessage, *refusal) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, refuse("the request is not a JSON object: %v", err)
	}
	for key, value := range o {
		switch {
		case allowed[key]:
		case string(value) == "null" || string(value) == "false":
			delete(o, key) // says nothing, whatever it is
		default:
			return nil, refuse("%q is not for services: leave it out", key)
		}
	}
	return o, nil
}
