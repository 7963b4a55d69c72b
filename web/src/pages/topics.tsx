import { useEffect, useState } from "preact/hooks";
import { ApiError, call, path } from "../api";
import { number } from "../format";
import { href, setQuery, usePlace } from "../router";
import type { Page, TopicMessage } from "../types";
import { useDelayed, useLoad } from "../ui/hooks";
import { Empty, Failure, Loading, Payload, Search, Time } from "../ui/parts";
import { say } from "../ui/status";

interface Topic {
  topic: string;
  messages: number;
  followers?: number;
}

interface Follower {
  user: string;
  device: string;
  edge: string;
}

/** The topics that hold messages, what is in one of them, and a test message into it. */
export function Topics() {
  const place = usePlace();
  const [query, setQueryText] = useState("");
  const [topic, setTopic] = useState(place.query.get("topic") ?? "");
  const q = useDelayed(query.trim(), 150);
  useEffect(() => setQuery("topic", topic), [topic]);
  const list = useLoad<Page<Topic>>("topics", { q, limit: 100 }, 10_000);
  return (
    <>
      <div class="title">
        <h1>Topics</h1>
      </div>
      <div class="bar-row">
        <Search
          label="Search topics"
          placeholder="Search topics; Enter opens one"
          value={query}
          onInput={setQueryText}
          onEnter={() => query.trim() && setTopic(query.trim())}
        />
      </div>
      <Failure error={list.error} retry={list.reload} />
      <div class="split">
        <section aria-label="Topics that hold messages">
          {!list.data && !list.error && <Loading />}
          {list.data?.items.length === 0 && (
            <Empty title={q ? "No topic with messages fits." : "No topic holds a message."}>
              <p>A topic begins with its first message. Type a name, press Enter, and publish one.</p>
            </Empty>
          )}
          {list.data && list.data.items.length > 0 && (
            <ul class="picks">
              {list.data.items.map((t) => (
                <li key={t.topic}>
                  <button type="button" class={`pick ${t.topic === topic ? "chosen" : ""}`} aria-pressed={t.topic === topic} onClick={() => setTopic(t.topic)}>
                    <span class="name">{t.topic}</span>
                    <span class="faint">
                      {number(t.messages)} {t.messages === 1 ? "message" : "messages"}
                      {(t.followers ?? 0) > 0 && `, ${number(t.followers)} following`}
                    </span>
                  </button>
                </li>
              ))}
            </ul>
          )}
        </section>
        {topic && <One key={topic} topic={topic} />}
      </div>
    </>
  );
}

function One({ topic }: { topic: string }) {
  const [text, setText] = useState('{"test":true}');
  const [error, setError] = useState<ApiError>();
  const messages = useLoad<Page<TopicMessage>>(`topics/${path(topic)}`, { limit: 50, last: true }, 5000);
  const publish = async () => {
    setError(undefined);
    let body: unknown;
    try {
      body = JSON.parse(text);
    } catch {
      setError(new ApiError(0, "BAD_MESSAGE", "That is not JSON. A text stands in double quotes."));
      return;
    }
    try {
      const { seq } = await call<{ seq: number }>(`topics/${path(topic)}`, { method: "POST", body });
      say(`Published to ${topic}, seq ${seq}.`);
      messages.reload();
    } catch (e) {
      setError(e as ApiError);
    }
  };
  const items = [...(messages.data?.items ?? [])].reverse();
  return (
    <section aria-labelledby="topic">
      <h2 id="topic" class="name">
        {topic}
      </h2>
      <Followers topic={topic} />
      <form
        class="publish"
        onSubmit={(e) => {
          e.preventDefault();
          void publish();
        }}
      >
        <label>
          Test message, as JSON
          <textarea rows={2} value={text} spellcheck={false} onInput={(e) => setText(e.currentTarget.value)} />
        </label>
        <button type="submit">Publish</button>
      </form>
      <Failure error={error} />
      <Failure error={messages.error?.status === 404 ? undefined : messages.error} retry={messages.reload} />
      {!messages.data && messages.loading && <Loading />}
      {messages.data && items.length === 0 && <Empty title="Nothing is stored in this topic." />}
      {items.map((m) => (
        <article key={m.seq} class="topic-message">
          <p class="faint">
            <span class="mono">#{m.seq}</span> from <span class="name">{m.from}</span>, <Time at={m.timestamp} />
          </p>
          <Payload value={m.data} encoding={m.encoding} />
        </article>
      ))}
    </section>
  );
}

/** The connected devices that follow a topic. */
function Followers({ topic }: { topic: string }) {
  const list = useLoad<Page<Follower>>(`topics/${path(topic)}/followers`, { limit: 100 }, 5000);
  const items = list.data?.items;
  if (list.error && !items) return <Failure error={list.error} retry={list.reload} />;
  return (
    <div class="followers">
      {items?.length === 0 && <p class="faint">No connected device follows it.</p>}
      {items && items.length > 0 && (
        <>
          <span class="faint" id="followers">
            Followed by
          </span>
          <ul aria-labelledby="followers">
            {items.map((f) => (
              <li key={`${f.user}/${f.device}`}>
                <a class="name" href={href(`devices/${path(f.user)}/${path(f.device)}`)} title={`connected to ${f.edge}`}>
                  {f.user}/{f.device}
                </a>
              </li>
            ))}
          </ul>
          {list.data?.next && <span class="faint">and more</span>}
        </>
      )}
    </div>
  );
}
