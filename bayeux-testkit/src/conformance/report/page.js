// Filters rows; without it the page shows them all.
const tools = document.querySelector(".tools");
const rows = [...document.querySelectorAll("tbody tr")];
const search = tools.querySelector("input");
const buttons = [...tools.querySelectorAll("button")];
function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const state = buttons.find((button) => button.getAttribute("aria-pressed") === "true").value;
  for (const row of rows) {
    const text = row.dataset.text;
    row.hidden = !(words.every((word) => text.includes(word)) && (state === "" || row.dataset.state === state));
  }
  for (const section of document.querySelectorAll("section")) {
    section.hidden = !section.querySelector("tbody tr:not([hidden])");
  }
}
search.addEventListener("input", filter);
for (const button of buttons) {
  button.addEventListener("click", () => {
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    filter();
  });
}
tools.hidden = false;
