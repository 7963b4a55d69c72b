package guard

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/rccs-io/rccs/internal/reader"
)

// isList reports whether what is asked for is a list of consumers.
func isList(api []string) bool { return len(api) > 1 && (api[1] == "LIST" || api[1] == "NAMES") }

// namesOurs reports whether a request names a consumer of RCCS.
// Its name comes behind the stream's, which is third or, of older clients, fourth.
func namesOurs(api []string) bool {
	return len(api) > 3 && slices.ContainsFunc(api[3:min(5, len(api))], isOurs)
}

func isOurs(name string) bool { return strings.HasPrefix(name, reader.ConsumerPrefix) }

// page is a part of a list of consumers, or of their names.
type page struct {
	Total     int               `json:"total"`
	Offset    int               `json:"offset"`
	Limit     int               `json:"limit"`
	Consumers []json.RawMessage `json:"consumers"`
}

// withoutOurs is the page of the list that body asks for, of which JetStream has
// answered first, with the consumers of RCCS left out. Where a page begins
// depends on what was left out of the ones before, so all are asked for.
func withoutOurs(first []byte, ask func([]byte) ([]byte, error), body []byte) ([]byte, error) {
	if !bytes.Contains(first, []byte(reader.ConsumerPrefix)) && bytes.Contains(first, []byte(`"offset":0`)) {
		return first, nil
	}
	var want struct {
		Offset int `json:"offset"`
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &want); err != nil {
			return first, nil //nolint:nilerr // JetStream has said so
		}
	}
	var all []json.RawMessage
	var last map[string]json.RawMessage
	for from := 0; ; {
		request, err := json.Marshal(map[string]int{"offset": from})
		if err != nil {
			return nil, err
		}
		answer, err := ask(request)
		if err != nil {
			return nil, err
		}
		var got page
		last = nil
		if json.Unmarshal(answer, &got) != nil || json.Unmarshal(answer, &last) != nil || last["error"] != nil {
			return answer, nil
		}
		for _, c := range got.Consumers {
			if !isOurs(nameOf(c)) {
				all = append(all, c)
			}
		}
		if from += len(got.Consumers); len(got.Consumers) == 0 || from >= got.Total {
			from = min(max(want.Offset, 0), len(all))
			to := min(from+max(got.Limit, 1), len(all))
			return with(last, map[string]any{"total": len(all), "offset": from, "consumers": append([]json.RawMessage{}, all[from:to]...)})
		}
	}
}

// with is an answer with some values replaced, and without those that may name
// what has just no leader.
func with(answer map[string]json.RawMessage, values map[string]any) ([]byte, error) {
	delete(answer, "missing")
	delete(answer, "offline")
	for name, value := range values {
		var err error
		if answer[name], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	return json.Marshal(answer)
}

// nameOf is the name of a consumer in a list: a string, or an object that has it.
func nameOf(c json.RawMessage) string {
	var name string
	if json.Unmarshal(c, &name) == nil {
		return name
	}
	var info struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(c, &info) // has none
	return info.Name
}
