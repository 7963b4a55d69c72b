// How the site's search ranks. A name such as QUEUE_FULL is one word, a short
// word is not taken for one that resembles it, and pages that tell how to do
// something come before those that tell how it came about.
//
// The pages carry these functions as text, so each stands by itself: it uses
// nothing of this file. stage.js checks that.
export const options = { tokenize: (text) => text.split(/[^\p{L}\p{N}_]+/u).filter(Boolean) };

export const searchOptions = {
  fuzzy: (word) => (word.length > 5 ? 0.2 : false),
  prefix: true,
  boost: { title: 4, text: 2, titles: 1 },
  boostDocument: (id) => {
    const weights = [
      [/\/(changelog|contributing)\.html/, 0.15],
      [/\/(adr\/|benchmarks\.html|architecture\.html)/, 0.25],
      [/\/(inbox|reliability|security)\.html/, 0.6],
      [/\/sdk\.html#(every-name|what-both-promise)/, 0.3],
      [/\/(deploy|kubernetes)\.html#what-was-run/, 0.3],
      [/\/(start|concepts|enrolment|tenants)\.html/, 1.5],
      [/\/(runbook|install|operations)\.html/, 1.3],
    ];
    return weights.find(([page]) => page.test(id))?.[1] ?? 1;
  },
};
