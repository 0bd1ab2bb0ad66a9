// Makes the titles of sortable tables buttons; without scripts the tables are static.
(() => {
  const value = (row, column) => {
    const cell = row.cells[column], number = cell.dataset.sort;
    return number === undefined ? cell.textContent.trim() : Number(number);
  };
  // What has no value comes last in either direction.
  const missing = (found) => found === "" || Number.isNaN(found);
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = Array.from(table.tHead.rows[0].cells), body = table.tBodies[0];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const now = was === first ? other : first;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", now);
        const sign = now === "ascending" ? 1 : -1;
        const rows = Array.from(body.rows).map((row) => [value(row, column), row]);
        rows.sort(([a], [b]) =>
          missing(a) || missing(b) ? missing(a) - missing(b) : sign * compare(a, b));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }
})();
