package strictjson_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/strictjson"
)

type body struct {
	N    int64  `json:"n"`
	U    uint64 `json:"u"`
	Text string `json:"text"`
	On   bool   `json:"on"`
}

func TestAnIntegerIsReadHoweverJSONWritesIt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]body{
		`{"n":5000}`: {N: 5000}, `{"n":5000.0}`: {N: 5000}, `{"n":5e3}`: {N: 5000}, `{"n":50E+2,"u":1.0}`: {N: 5000, U: 1}, `{"n":-5e3}`: {N: -5000},
		`{"n":-0}`: {}, `{"n":500000e-2}`: {N: 5000}, `{"n":0.0}`: {}, `{"u":9007199254740993}`: {U: 9007199254740993},
		`{"text":"1.0 \" 1e3 \\","n":1e0}`: {N: 1, Text: `1.0 " 1e3 \`}, "": {}, `{}`: {}, `null`: {},
	} {
		if text == "" {
			continue
		}
		var got body
		if err := strictjson.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s is %+v, %v, want %+v", text, got, err, want)
		}
	}
}

func TestWhatIsWrongIsSaidInWordsOfJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"n":1.5}`: `"n" cannot be a number 1.5`, `{"n":"5"}`: `"n" cannot be a string`, `{"u":-1}`: `"u" cannot be a number -1`, `{"on":[]}`: `"on" cannot be an array`,
		`{"n":1e300}`: `"n" cannot be a number 1e300`, `[]`: "want a JSON object, not an array", `5`: "want a JSON object, not a number", `{"n":1.}`: "not valid JSON", `{`: "not valid JSON",
		`{}{}`: "not valid JSON",
	} {
		err := strictjson.Unmarshal([]byte(text), new(body))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestAMemberGivenTwiceIsFound(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"a":1,"a":2}`: "a", `{"a":{"b":1,"b":2}}`: "b", `[{"a":1},{"a":1,"\u0061":2}]`: "a",
		`{"a":1,"A":2}`: "", `{"a":["a","a"],"b":{"a":1}}`: "", `[]`: "", `5`: "", `{"a":"b","b":"a"}`: "",
	} {
		if name, twice := strictjson.Twice([]byte(text)); name != want || twice != (want != "") {
			t.Errorf("%s: %q %t, want %q", text, name, twice, want)
		}
	}
}

// Whatever encoding/json reads, this reads as the same; and what it reads beyond
// that is an integer with a fraction or an exponent.
func FuzzUnmarshal(f *testing.F) {
	for _, text := range []string{`{"n":5e3,"text":"1.0"}`, `{"n":1.5}`, `{"u":1e1,"on":true}`, `{"text":"\\\"1e3"}`, `[1.0]`, `{"n":-0.0}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want body
		err, plainErr := strictjson.Unmarshal(data, &got), json.Unmarshal(data, &want)
		if plainErr == nil && (err != nil || !reflect.DeepEqual(got, want)) {
			t.Errorf("%q is %+v, %v; encoding/json says %+v", data, got, err, want)
		}
		if err == nil && !json.Valid(data) {
			t.Errorf("%q is taken", data)
		}
	})
}
