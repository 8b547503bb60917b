package api_test

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/api"
	"github.com/enmanuel/unibus/lib/bus"
)

const addUser = `{"sign_pub":"0101010101010101010101010101010101010101010101010101010101010101","handle":"alice","role":"admin"}`

func TestDecodeIsStrict(t *testing.T) {
	if got, err := api.Decode[api.AddUser]([]byte(addUser + " \n")); err != nil || got.Handle != "alice" {
		t.Fatalf("a plain request: %+v, %v", got, err)
	}
	for name, in := range map[string]string{
		"empty":           "",
		"null":            "null",
		"cut short":       addUser[:len(addUser)-1],
		"unknown field":   strings.Replace(addUser, `"role"`, `"status":"active","role"`, 1),
		"trailing object": addUser + "{}",
		"trailing text":   addUser + "x",
		"array":           "[" + addUser + "]",
		"bad handle":      strings.Replace(addUser, "alice", "Alice!", 1),
		"no handle":       strings.Replace(addUser, "alice", "", 1),
		"bad role":        strings.Replace(addUser, "admin", "owner", 1),
		"short key":       strings.Replace(addUser, "0101", "01", 1),
		"no key":          `{"handle":"alice","role":"admin"}`,
		"zero key":        strings.Replace(addUser, strings.Repeat("01", 32), strings.Repeat("00", 32), 1),
	} {
		if _, err := api.Decode[api.AddUser]([]byte(in)); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBytesAcceptOneForm(t *testing.T) {
	for _, in := range []string{`"AA=="`, `"AB"`, `"+/8"`, `"A"`, `"AA\n"`, `1`, `"A A"`} {
		var b api.Bytes
		if err := json.Unmarshal([]byte(in), &b); err == nil {
			t.Errorf("%s was accepted as %x", in, b)
		}
	}
}

func TestUploadsBeyondLimitsAreRefused(t *testing.T) {
	good := func() api.RecordUpload {
		return api.RecordUpload{Record: []byte("r"), Members: []byte("m"), Sealed: []api.SealedKey{{Blob: []byte("s")}}}
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*api.RecordUpload)
		want   error
	}{
		"no record":        {func(u *api.RecordUpload) { u.Record = nil }, bus.ErrMalformed},
		"no members":       {func(u *api.RecordUpload) { u.Members = nil }, bus.ErrMalformed},
		"empty sealed key": {func(u *api.RecordUpload) { u.Sealed[0].Blob = nil }, bus.ErrMalformed},
		"long record":      {func(u *api.RecordUpload) { u.Record = make([]byte, bus.MaxRoomRecord+1) }, bus.ErrTooLarge},
		"long sealed key":  {func(u *api.RecordUpload) { u.Sealed[0].Blob = make([]byte, bus.MaxSealedSize+1) }, bus.ErrTooLarge},
		"many sealed keys": {func(u *api.RecordUpload) { u.Sealed = make([]api.SealedKey, bus.MaxMembers+1) }, bus.ErrTooLarge},
	} {
		u := good()
		c.change(&u)
		if err := u.Validate(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := (api.Card{Card: make([]byte, bus.MaxCardSize+1)}).Validate(); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("long card: %v", err)
	}
}

// The largest room there can be must fit one request, or it could never be made.
func TestLargestUploadFitsABody(t *testing.T) {
	u := api.RecordUpload{Record: make([]byte, bus.MaxRoomRecord), Members: make([]byte, 4+bus.MaxMembers*97)}
	for range bus.MaxMembers {
		u.Sealed = append(u.Sealed, api.SealedKey{Blob: make([]byte, 1168)})
	}
	body, err := api.Encode(u)
	if err != nil {
		t.Fatal(err)
	}
	if len(body) > bus.MaxBody {
		t.Fatalf("%d bytes, at most %d may be sent", len(body), bus.MaxBody)
	}
}

func TestCursorRequestsAreChecked(t *testing.T) {
	r0, r1 := bus.RoomID(filled(8)), bus.RoomID(filled(1))
	session := bus.SessionID{1}
	tail := func(t ...api.TailShard) api.CursorRequest { return api.CursorRequest{Session: session, Tail: t} }
	catchUp := func(c ...api.CatchUp) api.CursorRequest { return api.CursorRequest{Session: session, CatchUp: c} }
	for name, c := range map[string]struct {
		req api.CursorRequest
		ok  bool
	}{
		"two shards":          {tail(api.TailShard{Shard: 0, Rooms: []bus.RoomID{r0}}, api.TailShard{Shard: 1, Rooms: []bus.RoomID{r1}}), true},
		"two slots":           {catchUp(api.CatchUp{Slot: 0, Room: r0, From: 1}, api.CatchUp{Slot: 3, Room: r0, From: 9}), true},
		"nothing":             {tail(), false},
		"no session":          {api.CursorRequest{CatchUp: []api.CatchUp{{Room: r0, From: 1}}}, false},
		"no rooms":            {tail(api.TailShard{Shard: 0}), true},
		"room elsewhere":      {tail(api.TailShard{Shard: 0, Rooms: []bus.RoomID{r1}}), false},
		"room twice":          {tail(api.TailShard{Shard: 0, Rooms: []bus.RoomID{r0, r0}}), false},
		"shard twice":         {tail(api.TailShard{Shard: 0, Rooms: []bus.RoomID{r0}}, api.TailShard{Shard: 0, Rooms: []bus.RoomID{r0}}), false},
		"shard below":         {tail(api.TailShard{Shard: -1, Rooms: []bus.RoomID{r0}}), false},
		"shard beyond":        {tail(api.TailShard{Shard: bus.Shards, Rooms: []bus.RoomID{r0}}), false},
		"slot beyond":         {catchUp(api.CatchUp{Slot: bus.CatchUpSlots, Room: r0, From: 1}), false},
		"slot below":          {catchUp(api.CatchUp{Slot: -1, Room: r0, From: 1}), false},
		"slot twice":          {catchUp(api.CatchUp{Room: r0, From: 1}, api.CatchUp{Room: r1, From: 1}), false},
		"catch up from zero":  {catchUp(api.CatchUp{Room: r0}), false},
		"catch up on no room": {catchUp(api.CatchUp{From: 1}), false},
	} {
		if err := c.req.Validate(); (err == nil) != c.ok || err != nil && !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPathsFillTheirPatterns(t *testing.T) {
	id, room, pub := bus.ID(filled(2)), bus.RoomID(filled(3)), bus.SignPub(filled(4))
	for _, c := range []struct {
		path, pattern string
		values        map[string]string
		query         string
	}{
		{api.HealthPath(), api.PatternHealth, nil, ""},
		{api.ReadyPath(), api.PatternReady, nil, ""},
		{api.CardPath(id), api.PatternCard, map[string]string{api.ValueID: id.String()}, ""},
		{api.CardByHashPath(id, bus.CardHash(filled(5))), api.PatternCard, map[string]string{api.ValueID: id.String()}, "hash=" + bus.CardHash(filled(5)).String()},
		{api.HandlePath("al.ice"), api.PatternHandle, map[string]string{api.ValueHandle: "al.ice"}, ""},
		{api.UsersPath(), api.PatternUsers, nil, ""},
		{api.UsersAfterPath(pub), api.PatternUsers, nil, "after=" + pub.String()},
		{api.RevokePath(pub), api.PatternRevoke, map[string]string{api.ValueSignPub: pub.String()}, ""},
		{api.RoomsPath(), api.PatternRooms, nil, ""},
		{api.RecordsPath(room), api.PatternRecords, map[string]string{api.ValueID: room.String()}, ""},
		{api.RecordsFromPath(room, 12), api.PatternRecords, map[string]string{api.ValueID: room.String()}, "from=12"},
		{api.KeyPath(room, 12), api.PatternKey, map[string]string{api.ValueID: room.String(), api.ValueEpoch: "12"}, ""},
		{api.CursorsPath(), api.PatternCursors, nil, ""},
		{api.BlobPath(bus.BlobHash(filled(6))), api.PatternBlob, map[string]string{api.ValueHash: bus.BlobHash(filled(6)).String()}, ""},
		{api.BlobFromPath(bus.BlobHash(filled(6)), 12), api.PatternBlob, map[string]string{api.ValueHash: bus.BlobHash(filled(6)).String()}, "from=12"},
		{api.BlobPartPath(bus.BlobHash(filled(6)), 12, 34), api.PatternBlob, map[string]string{api.ValueHash: bus.BlobHash(filled(6)).String()}, "part=12-34"},
	} {
		mux := http.NewServeMux()
		hit := false
		mux.HandleFunc(c.pattern, func(_ http.ResponseWriter, r *http.Request) {
			hit = true
			for k, want := range c.values {
				if got := r.PathValue(k); got != want {
					t.Errorf("%s: %s is %q, want %q", c.path, k, got, want)
				}
			}
			if r.URL.RawQuery != c.query {
				t.Errorf("%s: query %q, want %q", c.path, r.URL.RawQuery, c.query)
			}
		})
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, c.path, nil))
		if !hit {
			t.Errorf("%s does not match %s", c.path, c.pattern)
		}
	}
}

func TestPartsAndOffsetsHaveOneForm(t *testing.T) {
	if offset, size, err := api.ParsePart("0-9223372036854775807"); err != nil || offset != 0 || size != 1<<63-1 {
		t.Errorf("largest: %d, %d, %v", offset, size, err)
	}
	for _, in := range []string{"", "1", "1-", "-1", "1-2-3", "01-2", "1-02", "+1-2", "1-9223372036854775808", "-1-2", "1 -2"} {
		if _, _, err := api.ParsePart(in); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestBlobStatusTravelsInHeaders(t *testing.T) {
	for _, want := range []api.BlobStatus{{Offset: 5, Size: 7}, {Offset: 7, Size: 7, Complete: true}} {
		h := http.Header{}
		want.SetHeaders(h)
		if have, err := api.ReadBlobStatus(h); err != nil || have != want {
			t.Errorf("read %+v, %v, want %+v", have, err, want)
		}
	}
	for _, in := range [][2]string{{"", ""}, {"1", ""}, {"", "1"}, {"2", "1"}, {"-1", "1"}, {"x", "1"}} {
		h := http.Header{api.HeaderUploadOffset: {in[0]}, api.HeaderUploadLength: {in[1]}}
		if have, err := api.ReadBlobStatus(h); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%q: %+v, %v", in, have, err)
		}
	}
}

func TestEpochsHaveOneForm(t *testing.T) {
	if e, err := api.ParseEpoch("18446744073709551615"); err != nil || e != 1<<64-1 {
		t.Errorf("largest: %d, %v", e, err)
	}
	for _, in := range []string{"", "01", "+1", "-1", "1_0", "0x1", " 1", "18446744073709551616"} {
		if _, err := api.ParseEpoch(in); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func send(t *testing.T, p api.Problem) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	if err := api.WriteProblem(w, p); err != nil {
		t.Fatal(err)
	}
	return w.Result()
}

func TestProblemsComeBackAsTheirErrors(t *testing.T) {
	for _, code := range bus.Codes() {
		cause := bus.Errorf(code, "verb noun: cause")
		resp := send(t, api.NewProblem(cause, "req-1"))
		if resp.StatusCode != api.StatusOf(code) || resp.Header.Get("Content-Type") != api.MediaProblem {
			t.Errorf("%s: status %d, type %s", code, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
		err := api.ReadReply(resp, nil)
		if bus.CodeOf(err) != code {
			t.Errorf("%s came back as %s", code, bus.CodeOf(err))
		}
		shown := strings.Contains(err.Error(), "verb noun: cause")
		if inside := api.StatusOf(code) >= 500; inside == shown {
			t.Errorf("%s: status %d, message %q", code, api.StatusOf(code), err)
		}
	}
}

func TestInternalErrorsStayInside(t *testing.T) {
	p := api.NewProblem(errors.New("open /var/lib/secret: no such file"), "req-1")
	if p.Status != 500 || p.Detail != "" || p.Code != bus.CodeInternal || p.RequestID != "req-1" {
		t.Errorf("%+v", p)
	}
}

func TestConflictsCarryHeadAndDelay(t *testing.T) {
	p := api.NewProblem(bus.Errorf(bus.CodeConflict, "append record: lost"), "")
	p.Head = &api.Head{Room: bus.RoomID(filled(1)), Epoch: 3, Hash: bus.RecordHash(filled(2))}
	p.RetryAfterMS = 1500
	resp := send(t, p)
	if got := resp.Header.Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After %q", got)
	}
	var e *api.Error
	if err := api.ReadReply(resp, nil); !errors.As(err, &e) || !errors.Is(err, bus.ErrConflict) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, e.Problem); diff != "" {
		t.Errorf("-sent +got:\n%s", diff)
	}
	if e.RetryAfter() != 1500*time.Millisecond {
		t.Errorf("retry after %s", e.RetryAfter())
	}
}

// Whoever answers may be a proxy, or hostile.
func TestRepliesThatAreNoProblemsStillHaveACode(t *testing.T) {
	for name, c := range map[string]struct {
		status      int
		media, body string
		want        error
	}{
		"proxy page":         {502, "text/html", "<h1>bad gateway</h1>", bus.ErrUnavailable},
		"too large by proxy": {413, "", "", bus.ErrTooLarge},
		"broken problem":     {401, api.MediaProblem, `{"code":`, bus.ErrUnauthenticated},
		"unknown code":       {409, api.MediaProblem, `{"code":"no_such_code"}`, bus.ErrConflict},
		"teapot":             {418, "", "", bus.ErrMalformed},
		"redirect":           {302, "", "", bus.ErrMalformed},
	} {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", c.media)
		w.WriteHeader(c.status)
		if _, err := w.WriteString(c.body); err != nil {
			t.Fatal(err)
		}
		if err := api.ReadReply(w.Result(), nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v is not %v", name, err, c.want)
		}
	}
}

func TestARequestWithoutTLSToAPortWithTLSIsNamed(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	resp, err := http.Get("http://" + s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := api.ReadReply(resp, nil); !errors.Is(err, bus.ErrMalformed) || !strings.Contains(err.Error(), "https:// in --url") {
		t.Errorf("%v does not say that it takes TLS", err)
	}
}

func TestServerTextCannotDriveATerminal(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", api.MediaProblem)
	w.WriteHeader(400)
	detail, err := json.Marshal("\x1b[2Jgone\n" + strings.Repeat("é", 4000))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString(`{"code":"malformed","retry_after_ms":-5,"detail":` + string(detail) + `}`); err != nil {
		t.Fatal(err)
	}
	e := api.ReadProblem(w.Result())
	if strings.ContainsAny(e.Error(), "\x1b\n") || len(e.Error()) > 2*bus.MaxDetailLen {
		t.Errorf("%q", e.Error())
	}
	if e.RetryAfter() != 0 {
		t.Errorf("retry after %s", e.RetryAfter())
	}
}

func TestRepliesAreDecodedLeniently(t *testing.T) {
	reply := func(media, body string) *http.Response {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", media)
		if _, err := w.WriteString(body); err != nil {
			t.Fatal(err)
		}
		return w.Result()
	}
	var ready api.Ready
	if err := api.ReadReply(reply(api.MediaJSON, `{"ready":true,"since":1}`), &ready); err != nil || !ready.Ready {
		t.Errorf("%+v, %v", ready, err)
	}
	if err := api.ReadReply(reply("text/html", `{"ready":true}`), &ready); !errors.Is(err, bus.ErrMalformed) {
		t.Errorf("html: %v", err)
	}
	if err := api.ReadReply(reply(api.MediaJSON, `{"ready":tru`), &ready); !errors.Is(err, bus.ErrMalformed) {
		t.Errorf("cut short: %v", err)
	}
	big := `{"reasons":["` + strings.Repeat("x", api.MaxReply) + `"]}`
	if err := api.ReadReply(reply(api.MediaJSON, big), &ready); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("endless: %v", err)
	}
}

// What a decoder accepts is valid and survives being written again.
func FuzzDecode(f *testing.F) {
	for _, v := range samples() {
		data, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(addUser + "{}"))
	f.Add([]byte(`{"session":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		roundTrip[api.AddUser](t, data)
		roundTrip[api.Card](t, data)
		roundTrip[api.Entry](t, data)
		roundTrip[api.RecordUpload](t, data)
		roundTrip[api.CursorRequest](t, data)
	})
}

func roundTrip[R api.Request](t *testing.T, data []byte) {
	req, err := api.Decode[R](data)
	if err != nil {
		if c := bus.CodeOf(err); c != bus.CodeMalformed && c != bus.CodeTooLarge {
			t.Fatalf("%T: refused with %s: %v", req, c, err)
		}
		return
	}
	again, err := api.Encode(req)
	if err != nil {
		t.Fatalf("%T: %v", req, err)
	}
	back, err := api.Decode[R](again)
	if err != nil {
		t.Fatalf("%T: %s is refused: %v", req, again, err)
	}
	if third, err := api.Encode(back); err != nil || string(third) != string(again) {
		t.Fatalf("%T: %s became %s, %v", req, again, third, err)
	}
}
