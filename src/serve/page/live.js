// Keeps a page true while somebody looks at it: asks for it again every few seconds and puts in the parts that changed, counts down, says what
// changed of a pipeline's state, and says so when the server does not answer. Without it the page loads itself anew.
"use strict";
(() => {
  const EVERY = 5000;
  const root = document.documentElement;
  const announcer = document.getElementById("announcer");
  const offline = document.getElementById("offline");

  // The server's clock counts, not the one of this machine.
  let base = Date.parse(root.dataset.now);
  let since = performance.now();
  const now = () => base + performance.now() - since;

  const two = (n) => String(n).padStart(2, "0");
  const age = (seconds) => {
    const n = Math.abs(seconds);
    const text = n < 120 ? `${n} s` : n < 7200 ? `${Math.floor(n / 60)} min` : n < 172800 ? `${Math.floor(n / 3600)} h` : `${Math.floor(n / 86400)} days`;
    return seconds < 0 ? `in ${text}` : `${text} ago`;
  };
  const countdown = (left) => {
    const s = Math.max(0, left);
    const days = Math.floor(s / 86400);
    const day = days === 0 ? "" : days === 1 ? "1 day " : `${days} days `;
    return `in ${day}${Math.floor(s / 3600) % 24}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  };
  const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };
  const count = () => {
    const at = now();
    for (const e of document.querySelectorAll("[data-age]")) put(e, age(Math.trunc((at - Date.parse(e.dataset.age)) / 1000)));
    for (const e of document.querySelectorAll("[data-countdown]")) put(e, countdown(Math.trunc((Date.parse(e.dataset.countdown) - at) / 1000)));
  };

  const parts = (page) => [...page.querySelectorAll("[data-live]")];
  const keys = (page) => parts(page).map((part) => part.dataset.live).join(" ");
  // A part as the server wrote it, without what this script writes and what the reader opened.
  const plain = (part) => {
    const copy = part.cloneNode(true);
    for (const e of copy.querySelectorAll("[data-age], [data-countdown]")) e.textContent = "";
    for (const e of copy.querySelectorAll("details")) e.removeAttribute("open");
    return copy.outerHTML;
  };
  let known = new Map(parts(document).map((part) => [part.dataset.live, plain(part)]));

  const focusable = "a[href], summary, button, [tabindex]";
  // Puts `next` in the place of `part`; what is open stays open, what is scrolled stays scrolled, what has the focus keeps it.
  const replace = (part, next) => {
    const open = [...part.querySelectorAll("details[open]")].map((e) => e.id);
    const scrolled = [...part.querySelectorAll(".scroll")].map((e) => [e.scrollLeft, e.scrollTop]);
    const active = part.contains(document.activeElement) ? document.activeElement : null;
    const place = active ? [...part.querySelectorAll(focusable)].indexOf(active) : -1;
    const fresh = document.importNode(next, true);
    part.replaceWith(fresh);
    for (const id of open) { const e = id && document.getElementById(id); if (e) e.open = true; }
    fresh.querySelectorAll(".scroll").forEach((e, n) => { if (scrolled[n]) [e.scrollLeft, e.scrollTop] = scrolled[n]; });
    if (!active) return;
    const same = (e) => (active.id ? e.id === active.id : active.href && e.href === active.href);
    const all = [...fresh.querySelectorAll(focusable)];
    (all.find(same) ?? all[place] ?? document.getElementById("main")).focus({ preventScroll: true });
  };

  const selected = (part) => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  };
  const states = (page) => new Map([...page.querySelectorAll("[data-state]")].map((e) => [e.dataset.name, e.dataset.state]));

  const apply = (page) => {
    const script = (of) => of.querySelector("script[src]")?.getAttribute("src");
    if (script(page) !== script(document)) return location.reload(); // another version of the program
    base = Date.parse(page.documentElement.dataset.now);
    since = performance.now();
    const before = states(document);
    if (keys(page) !== keys(document)) {
      replace(document.getElementById("main"), page.getElementById("main"));
      known = new Map(parts(page).map((part) => [part.dataset.live, plain(part)]));
    } else {
      const old = new Map(parts(document).map((part) => [part.dataset.live, part]));
      for (const part of parts(page)) {
        const key = part.dataset.live;
        const text = plain(part);
        if (text === known.get(key) || selected(old.get(key))) continue;
        replace(old.get(key), part);
        known.set(key, text);
      }
    }
    document.title = page.title;
    document.querySelector(".clock").replaceChildren(...page.querySelector(".clock").childNodes);
    const changed = [...states(document)].filter(([name, state]) => before.has(name) && before.get(name) !== state);
    if (changed.length) announcer.textContent = changed.map(([name, state]) => `${name} is now ${state}.`).join(" ");
    count();
  };

  let busy = false;
  const update = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      apply(new DOMParser().parseFromString(await answer.text(), "text/html"));
      offline.hidden = true;
      root.classList.remove("old");
    } catch (error) {
      if (offline.hidden) {
        const time = new Date(base).toISOString().slice(11, 19);
        const why = error.message.startsWith("the server") ? error.message : "the server does not answer";
        offline.textContent = `This page is out of date: it is of ${time} UTC, and ${why}. It is asked again and again.`;
        offline.hidden = false;
        root.classList.add("old");
      }
    } finally {
      busy = false;
    }
  };

  count();
  setInterval(count, 1000);
  setInterval(update, EVERY);
  document.addEventListener("visibilitychange", update);
  // A click into a command selects it whole.
  document.addEventListener("click", (event) => {
    const code = event.target.closest?.(".command code");
    if (code && document.getSelection().isCollapsed) document.getSelection().selectAllChildren(code);
  });
})();
