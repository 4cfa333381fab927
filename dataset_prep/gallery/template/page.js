"use strict";
(() => {
  const form = document.getElementById("filter");
  const query = document.getElementById("query");
  const choices = [...form.elements.missing];
  const status = document.getElementById("status");
  const nothing = document.getElementById("nothing");
  const normal = (text) => text.normalize("NFKC").toLowerCase();
  const items = [...document.querySelectorAll(".item")].map((element) => {
    const found = [...element.querySelectorAll("[data-find]")];
    return {
      element,
      found,
      text: normal(found.map((part) => part.textContent).join("\n")),
      missing: element.dataset.missing.split(" "),
    };
  });
  const lacks = (item, choice) => choice === "" || item.missing.includes(choice);

  // What is asked for stands in the address (#q=word&missing=image), so that it can be linked and found again.
  function readAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    query.value = asked.get("q") ?? "";
    const choice = choices.find((one) => one.value === asked.get("missing")) ?? choices[0];
    choice.checked = true;
    show();
  }

  function writeAddress() {
    const asked = new URLSearchParams();
    if (query.value.trim()) asked.set("q", query.value.trim());
    if (form.elements.missing.value) asked.set("missing", form.elements.missing.value);
    history.replaceState(null, "", `#${asked}`);
    show();
  }

  function show() {
    const terms = normal(query.value).split(/\s+/).filter(Boolean);
    const chosen = form.elements.missing.value;
    const matching = items.filter((item) => terms.every((term) => item.text.includes(term)));
    for (const choice of choices) {
      const count = matching.filter((item) => lacks(item, choice.value)).length;
      document.getElementById(`${choice.id}-count`).textContent = count.toLocaleString("en");
    }
    const shown = new Set(matching.filter((item) => lacks(item, chosen)));
    for (const item of items) item.element.hidden = !shown.has(item);
    status.textContent = `${shown.size.toLocaleString("en")} of ${items.length.toLocaleString("en")} items`;
    nothing.hidden = shown.size > 0;
    mark(shown, terms);
  }

  function mark(shown, terms) {
    if (!("highlights" in CSS)) return;
    const ranges = [];
    for (const item of terms.length ? shown : []) {
      for (const { firstChild: node } of item.found) {
        const text = node ? node.data.toLowerCase() : "";
        if (!node || text.length !== node.data.length) continue; // positions would not fit
        for (const term of terms) {
          for (let at = text.indexOf(term); at >= 0; at = text.indexOf(term, at + term.length)) {
            const range = new Range();
            range.setStart(node, at);
            range.setEnd(node, at + term.length);
            ranges.push(range);
          }
        }
      }
    }
    CSS.highlights.set("match", new Highlight(...ranges));
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", writeAddress);
  form.addEventListener("reset", () => setTimeout(writeAddress));
  addEventListener("hashchange", readAddress);
  form.hidden = false;
  readAddress();
})();
