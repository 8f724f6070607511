"use strict";
document.documentElement.classList.add("scripted");
const each = (selector, work, root = document) => root.querySelectorAll(selector).forEach(work);
const theme = document.getElementById("theme");
if (theme) {
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const tell = () => { theme.textContent = dark() ? "Light page" : "Dark page"; };
  theme.hidden = false;
  tell();
  theme.addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; tell(); });
}
each(".copy", (button) => button.addEventListener("click", async () => {
  const text = button.previousElementSibling.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(button.previousElementSibling);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 1200);
}));
each("input[data-filters]", (field) => field.addEventListener("input", () => {
  const wanted = field.value.trim().toLowerCase();
  const table = document.getElementById(field.dataset.filters);
  let shown = 0;
  each("tbody tr", (row) => { row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted); shown += row.hidden ? 0 : 1; }, table);
  field.parentElement.querySelector("output").textContent = wanted ? shown + " shown" : "";
}));
const open = () => {
  let part = location.hash.length > 1 ? document.getElementById(location.hash.slice(1)) : null;
  for (const target = part; part; part = part.parentElement) {
    if (part.tagName === "DETAILS" && !part.open) { part.open = true; target.scrollIntoView(); }
  }
};
addEventListener("hashchange", open);
open();
addEventListener("beforeprint", () => each("details:not([open])", (part) => { part.open = true; part.dataset.closed = ""; }));
addEventListener("afterprint", () => each("details[data-closed]", (part) => { part.open = false; delete part.dataset.closed; }));
each(".menu a", (link) => link.addEventListener("click", () => { link.closest("details").open = false; }));
if ("IntersectionObserver" in window) {
  const links = new Map();
  each(".rail li a", (link) => links.set(link.getAttribute("href").slice(1), link));
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        links.forEach((link) => link.removeAttribute("aria-current"));
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
    }
  }, { rootMargin: "-10% 0px -75% 0px" });
  each("main > section[id]", (part) => watch.observe(part));
}
