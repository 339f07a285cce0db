"use strict";
// What every page does: its theme, tables that sort, and a command to copy.

{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  let theme = "system";
  const show = () => {
    const dark = theme === "system" ? system.matches : theme === "dark";
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    root.dataset.shade = dark ? "dark" : "light";
    button.textContent = `theme: ${theme}`;
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    show();
  });
  system.addEventListener("change", show);
  show();
}

// Press the heading of a column: sort by it; press again to turn the order round.
function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  const sort = (column) => {
    const down = headings[column].getAttribute("aria-sort") === "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    headings[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[column];
      return cell.dataset.key === undefined ? cell.textContent : Number(cell.dataset.key);
    };
    const compare = (x, y) => (x > y ? 1 : x < y ? -1 : 0) * (down ? -1 : 1);
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
  };
  headings.forEach((heading, column) =>
    heading.querySelector("button")?.addEventListener("click", () => sort(column)));
}
document.querySelectorAll("table.sortable").forEach(makeSortable);

for (const button of document.querySelectorAll("button.copy")) {
  const text = button.previousElementSibling;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "copied";
    } catch { // no clipboard for this page: leave the text selected, ready to copy
      getSelection().selectAllChildren(text);
      button.textContent = "selected";
    }
    setTimeout(() => (button.textContent = "copy"), 1500);
  });
}
