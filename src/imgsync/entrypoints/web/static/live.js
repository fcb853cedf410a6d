// Keeps the marked regions of an open page as they would be were it loaded now. Without scripts a
// page is as it was loaded; everything on it works all the same.
"use strict";
{
  const LEAST_MS = 1500; // between two looks, however much happens
  const AGAIN_MS = 30000; // where the server takes no more listeners, or is away
  let source = null;
  let timer = 0;
  let looking = false;
  let lookAgain = false;
  let last = 0;

  const regions = () => [...document.querySelectorAll("[data-live]")];
  const keyOf = (element) => element.dataset.live;

  // What somebody is about to do there must not be taken from them.
  const isInUse = (region) => {
    const active = document.activeElement;
    if (region.contains(active) && active.matches("input, select, textarea")) return true;
    return [...region.querySelectorAll("input, select, textarea")].some((one) =>
      one.type === "checkbox" || one.type === "radio"
        ? one.checked !== one.defaultChecked
        : one.tagName === "SELECT"
          ? [...one.options].some((option) => option.selected !== option.defaultSelected)
          : one.type !== "hidden" && one.value !== one.defaultValue
    );
  };

  // An element of the old region as one finds it in the new one: by what it is, and the how many-th.
  const placeOf = (region, element) => {
    const same = [...region.querySelectorAll(element.tagName)];
    return [element.tagName, same.indexOf(element)];
  };

  const replace = (old, fresh) => {
    if (old.innerHTML === fresh.innerHTML || isInUse(old)) return;
    const active = document.activeElement;
    const focused = old !== active && old.contains(active) ? active : null;
    const href = focused?.getAttribute("href");
    const place = focused && placeOf(old, focused);
    const open = [...old.querySelectorAll("details")].map((one) => one.open);
    old.innerHTML = fresh.innerHTML;
    [...old.querySelectorAll("details")].forEach((one, n) => {
      if (open[n]) one.open = true;
    });
    if (!focused) return;
    const again =
      (focused.id && document.getElementById(focused.id)) ||
      (href && [...old.querySelectorAll("a[href]")].find((a) => a.getAttribute("href") === href)) ||
      old.querySelectorAll(place[0])[place[1]];
    again?.focus({ preventScroll: true });
  };

  const look = async () => {
    if (looking) {
      lookAgain = true;
      return;
    }
    looking = true;
    lookAgain = false;
    last = performance.now();
    try {
      const answer = await fetch(location.href, {
        headers: { Accept: "text/html" },
        cache: "no-store",
      });
      if (answer.redirected && new URL(answer.url).pathname === "/login") {
        location.reload();
        return;
      }
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = new Map([...page.querySelectorAll("[data-live]")].map((r) => [keyOf(r), r]));
        for (const region of regions()) {
          const one = fresh.get(keyOf(region));
          if (one) replace(region, one);
        }
        if (page.title) document.title = page.title;
      }
    } catch {
      // The server is away; the next event, or the next attempt, tells when it is back.
    }
    looking = false;
    if (lookAgain) soon();
  };

  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(look, Math.max(0, LEAST_MS - (performance.now() - last)));
  };

  const stop = () => {
    source?.close();
    source = null;
  };

  // A page that nobody sees asks for nothing.
  const begin = () => {
    if (document.hidden) {
      stop();
      return;
    }
    if (source && source.readyState !== EventSource.CLOSED) return;
    source = new EventSource("/live");
    source.addEventListener("changed", soon);
  };

  if (window.EventSource && regions().length) {
    document.querySelector("meta[http-equiv=refresh]")?.remove();
    document.addEventListener("visibilitychange", () => {
      begin();
      if (!document.hidden) soon();
    });
    window.addEventListener("pagehide", stop);
    window.addEventListener("pageshow", begin);
    setInterval(() => {
      if (document.hidden || source?.readyState !== EventSource.CLOSED) return;
      soon();
      begin();
    }, AGAIN_MS);
    begin();
  }
}
