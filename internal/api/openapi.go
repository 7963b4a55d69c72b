package api

import (
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// documentPath is where the document is served, to anybody who may come in: it
// holds no secret.
const documentPath = "/v1/openapi.json"

const problemSchema = "#/components/schemas/Problem"

// config is that of huma, without what it would serve itself.
func config(version string) huma.Config {
	c := huma.DefaultConfig("RCCS", version)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", "", nil
	format := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: unmarshal}
	c.Formats = map[string]huma.Format{jsonType: format, "json": format}
	c.Transformers = []huma.Transformer{translate}
	c.Info.Description = "Messages between a person's devices and backend services: for backends without NATS, for the console and for" +
		" scripts. Times are RFC 3339. Names in paths are percent-encoded once. Errors are RFC 9457 problems with a `code`."
	c.Info.License = &huma.License{Name: "Apache 2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0"}
	c.Info.Contact = &huma.Contact{Name: "RCCS", URL: "https://github.com/rccs-io/rccs"}
	c.Servers = []*huma.Server{{URL: "/", Description: "The admin address, or that of --api-listen"}}
	c.Tags = []*huma.Tag{
		{Name: "Messages", Description: "Send to devices, and see what became of it"},
		{Name: "Devices", Description: "Users and their devices"},
		{Name: "Requests", Description: "Ask a connected device"},
		{Name: "Topics", Description: "Publish and read"},
		{Name: "Events", Description: "What happens, as it happens"},
		{Name: "Enrolment", Description: "Let devices in"},
		{Name: "Inbox", Description: "What waits for a device, and again"},
		{Name: "Revocations", Description: "End credentials"},
		{Name: "Installation", Description: "Servers, edges, records"},
		{Name: "Tenants", Description: "Who shares the installation"},
		{Name: "Session", Description: "The console's"},
	}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {
			Type: "http", Scheme: "bearer",
			Description: "An operator's token (--admin-token-file), or a service's (rccs creds service NAME --bearer)",
		},
		"session": {Type: "apiKey", In: "cookie", Name: cookieName, Description: "What POST /v1/session sets"},
	}
	c.Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")
	return c
}

// describe fills what the document says of a row beside its types.
func describe(doc *huma.OpenAPI, op *huma.Operation, rw row) {
	if op.Responses == nil {
		op.Responses = make(map[string]*huma.Response)
	}
	statuses := []int{http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable}
	if rw.who == anybody {
		op.Security = []map[string][]string{{}}
	} else {
		op.Security = []map[string][]string{{"token": {}}}
		if rw.who == operators {
			op.Security = append(op.Security, map[string][]string{"session": {}})
		}
		statuses = append(statuses, http.StatusForbidden)
	}
	statuses = append(statuses, http.StatusUnauthorized)
	if rw.method == http.MethodPost {
		statuses = append(statuses, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	for _, status := range statuses {
		op.Responses[strconv.Itoa(status)] = problemResponse(status)
	}
	op.Responses["default"] = &huma.Response{Description: "Another problem", Content: problemContent()}
	_ = doc
}

func problemContent() map[string]*huma.MediaType {
	return map[string]*huma.MediaType{problemType: {Schema: &huma.Schema{Ref: problemSchema}}}
}

func problemResponse(status int) *huma.Response {
	r := &huma.Response{Description: http.StatusText(status), Content: problemContent()}
	switch status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		r.Headers = map[string]*huma.Param{"Retry-After": {Description: "Seconds", Schema: &huma.Schema{Type: huma.TypeInteger}}}
	case http.StatusUnauthorized:
		r.Headers = map[string]*huma.Param{"WWW-Authenticate": {Schema: &huma.Schema{Type: huma.TypeString}}}
	}
	return r
}

// jsonResponse is an answer of a type that huma cannot see.
func jsonResponse(a *API, description string, example any) *huma.Response {
	schema := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(example), true, "")
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{jsonType: {Schema: schema}}}
}

func streamResponse(description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {
		Description: description, Content: map[string]*huma.MediaType{eventStream: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
}

// anyJSON is any JSON value.
func anyJSON(description string) *huma.Schema { return &huma.Schema{Description: description} }

func (a *API) serveDocument(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/vnd.oai.openapi+json;version=3.1")
	_, _ = w.Write(a.document)
}
