(() => {
  "use strict";

  const each = (selector, work, root = document) => root.querySelectorAll(selector).forEach(work);

  // Rows that wait in a template come in before anything is done with all of them.
  const adopt = (box) => {
    const waiting = box.querySelector("template");
    if (!waiting) return;
    box.querySelector("tbody").append(waiting.content);
    waiting.remove();
    box.querySelector(".more").remove();
  };

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    const value = text === "" || text === "–" ? NaN : Number(text.replaceAll(",", ""));
    return { text, value };
  };

  const compare = (a, b) => {
    const [none, other] = [Number.isNaN(a.value), Number.isNaN(b.value)];
    if (!none && !other) return a.value - b.value;
    if (none !== other) return none ? 1 : -1;
    return a.text.localeCompare(b.text, undefined, { numeric: true });
  };

  const sort = (box, head) => {
    adopt(box);
    const column = head.cellIndex;
    const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    const body = box.querySelector("tbody");
    const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
    rows.sort(([a], [b]) => (order === "ascending" ? compare(a, b) : compare(b, a)));
    body.append(...rows.map(([, row]) => row));
    each("th[aria-sort]", (one) => one.setAttribute("aria-sort", "none"), box);
    head.setAttribute("aria-sort", order);
  };

  const filter = (box, words) => {
    adopt(box);
    const wanted = words.toLowerCase();
    for (const row of box.querySelector("tbody").rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    }
  };

  each(".long", (box) => {
    each("th button", (button) => button.addEventListener("click", () => sort(box, button.closest("th"))), box);
    each(".filter", (line) => {
      line.hidden = false;
      const field = line.querySelector("input");
      field.addEventListener("input", () => filter(box, field.value.trim()));
    }, box);
    each(".more button", (button) => {
      button.hidden = false;
      button.addEventListener("click", () => adopt(box));
    }, box);
  });

  // A file that was opened from a disk may lack the clipboard; then the text is selected.
  each("button.copy", (button) => {
    const code = button.parentElement.querySelector("code");
    const said = button.parentElement.querySelector("[role=status]");
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        said.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(code);
        said.textContent = "selected: press Ctrl+C";
      }
    });
  });

  // What is folded away on the screen is not lost on paper.
  addEventListener("beforeprint", () => each("details:not([open])", (one) => {
    one.open = true;
    one.dataset.folded = "";
  }));
  addEventListener("afterprint", () => each("details[data-folded]", (one) => {
    one.open = false;
    delete one.dataset.folded;
  }));
})();
