// Progressive enhancement: shows the progress of a run, and filters without a request. The page also
// works without JavaScript.

const find = (id) => document.getElementById(id);
const rows = () => document.querySelectorAll("[data-test]");
const PROBLEMS = ["failed", "errored", "timed_out"];
let isRunning = false;
let loadedAt = performance.now();

const here = () => location.pathname + location.search;

/** Display a message in the live region, which screen readers announce. */
function announce(words) {
  const news = find("news");
  if (news) news.textContent = words;
}

/** Fetch by an absolute URL: fetch() rejects relative ones if the URL of the page has a password. */
const request = (address, options) => fetch(new URL(address, location.origin), options);

// ---- Runs ----

/** Yield the objects of a streamed response in newline-delimited JSON. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) yield JSON.parse(line);
    if (done) return;
  }
}

/** Run the tests that a form selects; without `isForced`, a stored report may be returned. */
async function run(form, button, isForced) {
  if (isRunning) return announce("The tests are already running.");
  isRunning = true;
  const query = new URLSearchParams(new FormData(form, button));
  query.delete("csrfmiddlewaretoken");
  query.set("format", "ndjson");
  const address = `${form.dataset.stream ?? form.getAttribute("action")}?${query}`;
  markRunning(true);
  try {
    const headers = { Accept: "application/x-ndjson", ...(isForced && { "Cache-Control": "no-cache" }) };
    const response = await request(address, { headers });
    if (!response.headers.get("Content-Type")?.startsWith("application/x-ndjson")) {
      throw new Error(`status ${response.status}`);
    }
    const last = await showProgress(response);
    if (last?.event === "report") {
      await show(here());
      announce(`Done: ${summary(last.report)}.`);
    } else {
      await show(here());
      announce(last?.event === "error" ? last.message : "The connection was lost. Run the tests again.");
    }
  } catch (error) {
    announce(`The request failed (${error.message}). Reload the page.`);
  } finally {
    isRunning = false;
    markRunning(false);
  }
}

/** Show the events of a run; returns the last one. */
async function showProgress(response) {
  let last, total = 0, done = 0, bad = 0;
  for await (last of events(response)) {
    if (last.event === "waiting") {
      progress("Another run is in progress; waiting for it …");
    } else if (last.event === "start") {
      total = last.tests;
      const ids = new Set(last.ids);
      for (const row of rows()) if (ids.has(row.dataset.test)) setBadge(row, "pending", "pending");
      progress(`0 of ${total} tests done`, 0, total);
      announce(`Running ${total} ${total === 1 ? "test" : "tests"}.`);
    } else if (last.event === "running") {
      for (const row of rows()) if (row.dataset.test === last.id) setBadge(row, "pending", "running");
    } else if (last.event === "test") {
      done += 1;
      bad += PROBLEMS.includes(last.result.outcome);
      progress(`${done} of ${total} tests done${bad ? `, ${bad} failed` : ""}`, done, total);
      for (const row of rows()) if (row.dataset.test === last.result.id) finish(row, last.result);
    }
  }
  return last;
}

function summary(report) {
  const bad = report.tests_failed + report.tests_errored;
  return `${report.status}, ${report.tests_passed} passed${bad ? `, ${bad} failed` : ""}`;
}

function progress(words, value, max) {
  const bar = document.querySelector("#progress progress");
  if (value === undefined) bar.removeAttribute("value");
  else [bar.max, bar.value] = [max || 1, value];
  find("progress-text").textContent = words;
}

function markRunning(on) {
  find("progress").hidden = !on;
  if (on) progress("Starting the run …");
  if (on && find("verdict").textContent === "NO RESULT") find("verdict").textContent = "RUNNING";
  for (const button of document.querySelectorAll("[form=run-one], form.run button")) {
    if (on) button.setAttribute("aria-disabled", "true");
    else button.removeAttribute("aria-disabled");
  }
}

function setBadge(row, kind, words) {
  const badge = row.querySelector(".badge");
  [badge.className, badge.textContent] = [`badge ${kind}`, words];
}

function finish(row, result) {
  row.dataset.outcome = result.outcome;
  setBadge(row, result.outcome, result.outcome.replace("_", " "));
  const message = row.querySelector(".message");
  if (message) message.textContent = result.message;
}

// ---- Updates of the page ----

/** Replace the content with that of the server; keeps the focus and open details. */
async function show(address) {
  const headers = { Accept: "text/html", "X-Requested-With": "smoketest" };
  const text = await (await request(address, { headers })).text();
  const page = new DOMParser().parseFromString(text, "text/html");
  loadedAt = performance.now();
  const place = placeOf(document.activeElement);
  const opened = [...document.querySelectorAll("#results [data-test] details[open]")].map(placeOf);
  for (const id of ["status", "filter", "results"]) {
    const [old, fresh] = [find(id), page.getElementById(id)];
    const isBusy = id === "filter" && old?.contains(document.activeElement);
    if (old && fresh && !isBusy) old.replaceWith(document.adoptNode(fresh));
  }
  if (page.title) document.title = page.title;
  const icon = page.querySelector("link[rel=icon]");
  if (icon) document.querySelector("link[rel=icon]").replaceWith(document.adoptNode(icon));
  for (const selector of opened) document.querySelector(selector)?.setAttribute("open", "");
  if (place && document.activeElement === document.body) {
    (document.querySelector(place) ?? find("verdict")).focus();
  }
  filter();
}

/** Return a selector of the same element in the updated page. */
function placeOf(element) {
  if (!element || element === document.body) return "";
  if (element.id) return `#${CSS.escape(element.id)}`;
  const test = element.closest("[data-test]");
  const inside = test ? `[data-test="${CSS.escape(test.dataset.test)}"] ` : "";
  if (element.matches("details")) return `${inside}details:has(> summary.${element.firstElementChild.className})`;
  return inside ? `${inside}${element.localName}` : "";
}

// ---- Filters ----

function filter() {
  const form = find("filter-form");
  if (!form) return;
  const wanted = Object.fromEntries(new FormData(form));
  const text = wanted.q.toLowerCase();
  let shown = 0;
  for (const row of rows()) {
    const { test, app, outcome } = row.dataset;
    const kinds = PROBLEMS.includes(outcome) ? [outcome, "problem"] : [outcome];
    row.hidden = !(
      test.toLowerCase().includes(text) &&
      (!wanted.app || wanted.app === app) &&
      (!wanted.outcome || kinds.includes(wanted.outcome))
    );
    shown += !row.hidden;
  }
  for (const section of document.querySelectorAll("#results section:has([data-test])")) {
    section.hidden = !section.querySelector("[data-test]:not([hidden])");
  }
  const words = `${shown} of ${rows().length} tests shown`;
  if (find("shown").textContent !== words) find("shown").textContent = words;
}

/** Return the URL of the page with the filters of the form. */
function filterAddress() {
  const query = new URLSearchParams(new FormData(find("filter-form")));
  for (const [name, value] of [...query]) if (!value) query.delete(name);
  return location.pathname + (query.size ? `?${query}` : "");
}

function onChoice(event) {
  if (event.target.form?.id !== "filter-form" || filterAddress() === here()) return;
  history.replaceState(null, "", filterAddress());
  // A tag also selects the tests of a run, so the server returns the status of those tests.
  if (event.target.name === "tag") show(here()).catch(() => location.reload());
  else filter();
}

document.addEventListener("input", onChoice);
document.addEventListener("change", onChoice);

document.addEventListener("submit", (event) => {
  if (event.target.matches("form.run")) {
    event.preventDefault();
    run(event.target, event.submitter, true);
  } else if (event.target.id === "filter-form") {
    event.preventDefault();
    filter();
  }
});

// ---- Times ----

function ago(seconds) {
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
  if (days >= 2) return `${days} days ago`;
  if (hours) return `${hours} h ${minutes % 60} min ago`;
  return minutes ? `${minutes} min ago` : `${Math.round(seconds)} s ago`;
}

// Based on the clock of the server, because that of the client may be wrong.
setInterval(() => {
  const now = Date.parse(find("status")?.dataset.now) + performance.now() - loadedAt;
  for (const time of document.querySelectorAll("time.ago")) {
    const seconds = (now - Date.parse(time.dateTime)) / 1000;
    if (seconds >= 1) time.textContent = ago(seconds);
  }
}, 5000);

if (find("run-all") && document.querySelector("#status[data-stale]")) run(find("run-all"), null, false);
