// Sorting, sliders, the choice of what lies on top. Without script the tables and pictures are still there.
"use strict";

(() => {
  // ------------------------------------------------------------------------------------------------ tables

  const original = new Map();

  function value(row, column) {
    if (column === 0) return row.cells[0].textContent.toLowerCase();
    const text = row.cells[column]?.dataset.value;
    return text === undefined ? null : Number(text);
  }

  // Each group is sorted by itself; lines without a figure stay at the end of theirs.
  function sort(table, column, direction) {
    for (const body of table.tBodies) {
      if (!original.has(body)) original.set(body, [...body.rows]);
      const rows = original.get(body).filter((row) => !row.classList.contains("group"));
      if (direction) {
        const sign = direction === "ascending" ? 1 : -1;
        rows.sort((a, b) => {
          const [x, y] = [value(a, column), value(b, column)];
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * (x < y ? -1 : Number(x > y));
        });
      }
      body.append(...rows);
    }
  }

  // First click: best on top. Second: the other way round. Third: as it was.
  function turn(heading) {
    const first = heading.dataset.first ?? (heading.cellIndex === 0 ? "ascending" : "descending");
    const second = first === "ascending" ? "descending" : "ascending";
    const next = {[first]: second, [second]: ""}[heading.getAttribute("aria-sort")] ?? first;
    const table = heading.closest("table");
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    if (next) heading.setAttribute("aria-sort", next);
    sort(table, heading.cellIndex, next);
  }

  document.querySelectorAll("thead button").forEach((button) => {
    button.onclick = () => turn(button.closest("th"));
  });

  // ----------------------------------------------------------------------------------------------- gallery

  document.querySelectorAll("figure.compare").forEach((figure) => {
    const stack = figure.querySelector(".stack");
    const slider = stack.querySelector("input");
    const before = stack.querySelector(".before");
    const afters = [...stack.querySelectorAll(".after")];
    const choice = figure.querySelector("select");
    const at = () => Math.max(0, choice ? choice.selectedIndex : 0);
    slider.oninput = () => stack.style.setProperty("--split", `${slider.value}%`);
    slider.oninput(); // a reloaded page keeps the values of its fields
    const choose = () => afters.forEach((image, i) => (image.hidden = i !== at()));
    if (choice) choice.onchange = choose;
    choose();
    figure.querySelector(".enlarge").onclick = () =>
      openViewer({
        title: figure.dataset.title,
        before: {label: before.alt, src: before.src},
        afters: afters.map((image) => ({label: image.alt, src: image.src})),
        index: at(),
        split: slider.value,
      });
  });
})();
