// What moves on the console's pages, and what uploads files. Pages are whole without it, but for uploads.
"use strict";

const notice = (text) => {
  const place = document.getElementById("notice");
  place.textContent = text;
  place.hidden = !text;
};

// Moments in the reader's own time zone, and how long ago they were.

const zoned = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const spans = [[86400, "d"], [3600, "h"], [60, "min"]];

function tell(root = document) {
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    if ("ago" in time.dataset) {
      const past = Math.max((Date.now() - at) / 1000, 0);
      const span = spans.find(([length]) => past >= length);
      time.textContent = span ? `${Math.floor(past / span[0])} ${span[1]} ago` : "just now";
      time.title = zoned.format(at);
    } else if (!time.title.startsWith(zoned.format(at))) {
      time.title = `${zoned.format(at)} (${time.title})`;
      time.textContent = zoned.format(at);
    }
  }
}
tell();
setInterval(tell, 15000);

// Live fragments. A browser keeps few connections to a host: a hidden tab holds none.

const parsed = (html) => {
  const made = document.createElement("template");
  made.innerHTML = html;
  tell(made.content);
  return made.content;
};

/** Put `fresh` where `old` is; who has the keyboard there keeps it. */
function swap(old, fresh) {
  const within = [...old.querySelectorAll("a, button, summary")];
  const place = within.indexOf(document.activeElement);
  old.replaceWith(fresh);
  if (place >= 0) fresh.querySelectorAll("a, button, summary")[place]?.focus();
}

const last = new Map();
const rows = new Map();

const heard = {
  parts(data) {
    for (const part of parsed(data).querySelectorAll("[id^=p-]")) {
      const html = part.outerHTML, old = document.getElementById(part.id);
      if (!old || last.get(part.id) === html) continue;
      last.set(part.id, html);
      swap(old, part);
      if (part.dataset.title) document.title = part.dataset.title;
    }
  },
  rows(data) {
    for (const row of parsed(data).querySelectorAll("tr")) {
      rows.set(row.id, row);
      const old = document.getElementById(row.id);
      if (old) swap(old, row);
    }
  },
  order(data) {
    const ids = data.split(" ").filter(Boolean), body = document.getElementById("jobs");
    if (!body !== !ids.length) return location.reload(); // the list began, or became empty
    if (!body) return;
    ids.forEach((id, place) => {
      const row = document.getElementById(`job-${id}`) ?? rows.get(`job-${id}`);
      if (row && body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null);
    });
    for (const row of [...body.children]) if (!ids.includes(row.dataset.job)) row.remove();
  },
  async ended() {
    // Once more the whole page: downloads and what is kept until when.
    const answer = await fetch(location.href);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    tell(page);
    document.title = page.title;
    swap(document.querySelector("main"), page.querySelector("main"));
  },
  refused(data) { notice(`This page is not live: ${data}`); },
  "signed-out"() { signedOut(); },
};

let source, done = false, again;

function signedOut() {
  done = true;
  notice("Your session has ended. Reload the page to sign in again.");
}

function follow() {
  const address = document.querySelector("[data-live]")?.dataset.live;
  if (!address || done || source || document.hidden) return;
  source = new EventSource(address);
  source.onopen = () => notice("");
  for (const [kind, act] of Object.entries(heard)) {
    source.addEventListener(kind, (event) => {
      if (["ended", "refused", "signed-out"].includes(kind)) { done = true; leave(); }
      act(event.data);
    });
  }
  source.onerror = async () => {
    const closed = source?.readyState === EventSource.CLOSED;
    if (done || document.hidden) return;
    notice("The connection is lost; trying again …");
    if (!closed) return; // the browser tries again by itself
    leave();
    const answer = await fetch(address, { redirect: "manual", headers: { accept: "text/event-stream" } }).catch(() => null);
    answer?.body?.cancel();
    if (answer?.type === "opaqueredirect") return signedOut();
    again = setTimeout(follow, 3000);
  };
}

function leave() {
  source?.close();
  source = undefined;
  clearTimeout(again);
}

document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));
addEventListener("pagehide", leave);
addEventListener("pageshow", follow);
follow();

// Forms.

document.addEventListener("change", (event) => {
  if ("submits" in event.target.dataset) event.target.form.submit();
});
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.confirm && !confirm(form.dataset.confirm)) return event.preventDefault();
  // Sent twice it would be refused; a page that the browser brings back has its buttons again.
  if (form.id !== "load") setTimeout(() => form.querySelectorAll("button").forEach((button) => (button.disabled = true)));
});
addEventListener("pageshow", (event) => {
  if (event.persisted) document.querySelectorAll("button:disabled").forEach((button) => (button.disabled = false));
});

// Uploads: tus 1.0, in pieces; what was interrupted goes on where it stopped.

const form = document.getElementById("load");
if (form) {
  const piece = 16 << 20, patience = 60000, tus = { "tus-resumable": "1.0.0" };
  const again = new Set([0, 409, 423, 429, 502, 503, 504, 507]);
  const file = document.getElementById("file"), wrong = document.getElementById("wrong");
  const sending = document.getElementById("sending"), stop = document.getElementById("stop"), send = form.querySelector("button.main");
  let now, sent; // the request under way; the file that is uploaded already

  const kinds = form.querySelector("[data-kinds]");
  const shown = () => {
    for (const fields of form.querySelectorAll("[data-kind]")) {
      const mine = fields.dataset.kind === kinds.value;
      fields.hidden = fields.disabled = !mine;
      for (const field of fields.querySelectorAll("[data-required]")) field.required = mine;
    }
  };
  if (kinds) {
    kinds.addEventListener("change", shown);
    shown();
  }

  const size = (bytes) => {
    const units = ["bytes", "kB", "MB", "GB"];
    let unit = 0;
    while (bytes >= 1000 && unit < 3) { bytes /= 1000; unit += 1; }
    return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
  };

  /** One request: its status, its headers, what it said. */
  const ask = (method, url, headers, body, told) => new Promise((resolve) => {
    now = new XMLHttpRequest();
    now.open(method, url);
    for (const [name, value] of Object.entries({ ...tus, ...headers })) now.setRequestHeader(name, value);
    if (told) now.upload.onprogress = (event) => told(event.loaded);
    now.onloadend = () => {
      let said = "";
      try { said = JSON.parse(now.responseText).message; } catch { /* nothing was said */ }
      resolve({ status: now.status, header: (name) => now.getResponseHeader(name), said });
    };
    now.send(body ?? null);
  });

  class Stopped extends Error {}

  async function upload(chosen, told) {
    const name = btoa(String.fromCharCode(...new TextEncoder().encode(chosen.name)));
    let url, there = 0, since = Date.now(), pause = 300;
    for (;;) {
      let answer;
      if (!url) {
        answer = await ask("POST", "/uploads/tus/", { "upload-length": chosen.size, "upload-metadata": `filename ${name}` });
        if (answer.status === 201) { url = answer.header("location"); there = Number(answer.header("upload-offset")); }
      } else {
        const begun = there;
        answer = await ask("PATCH", url, { "upload-offset": there, "content-type": "application/offset+octet-stream" },
          chosen.slice(there, there + piece), (bytes) => told(begun + bytes));
        if (answer.status === 204) there = Number(answer.header("upload-offset"));
        else if (again.has(answer.status) && !now.stopped) {
          const head = await ask("HEAD", url, {});
          if (head.status === 200) there = Number(head.header("upload-offset"));
        }
      }
      if (now.stopped) throw new Stopped();
      if (answer.status === 201 || answer.status === 204) {
        told(there);
        if (there === chosen.size) return url.split("/").pop();
        since = Date.now();
        pause = 300;
        continue;
      }
      if (answer.status === 401) throw new Error("Your session has ended. Sign in in another tab, then load again: what is uploaded stays.");
      if (!again.has(answer.status)) throw new Error(answer.said || `The server refused the file (${answer.status}).`);
      if (Date.now() - since > patience) throw new Error(answer.said || "The server does not answer.");
      told(there, answer.said || "The connection is lost; trying again …");
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, 5000);
    }
  }

  const busy = (on) => {
    send.disabled = on;
    stop.hidden = sending.hidden = !on;
  };

  form.addEventListener("submit", async (event) => {
    const chosen = file.files[0];
    if (!chosen || sent === chosen) return; // it is uploaded already
    event.preventDefault();
    wrong.hidden = true;
    const most = Number(form.dataset.most);
    busy(true);
    const began = performance.now(), [bar, words] = sending.children;
    try {
      if (chosen.size > most) throw new Error(`The file has ${size(chosen.size)}; at most ${size(most)} can be uploaded.`);
      form.elements.upload_id.value = await upload(chosen, (there, what) => {
        bar.value = chosen.size ? there / chosen.size : 1;
        const speed = there / Math.max((performance.now() - began) / 1000, 0.001);
        words.textContent = what ?? `${size(there)} of ${size(chosen.size)} · ${size(speed)}/s`;
      });
      form.elements.file_name.value = chosen.name;
      sent = chosen;
      form.submit();
    } catch (fault) {
      busy(false);
      if (fault instanceof Stopped) return;
      wrong.textContent = fault.message;
      wrong.hidden = false;
    }
  });
  stop.addEventListener("click", () => { now.stopped = true; now.abort(); });
  addEventListener("pageshow", () => busy(false));
}
