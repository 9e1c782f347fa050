"use strict";
for (const button of document.querySelectorAll("button[data-copies]")) {
  button.hidden = false; // without scripts there is none
  button.addEventListener("click", async () => {
    const part = document.getElementById(button.dataset.copies);
    const said = document.getElementById("said");
    try {
      await navigator.clipboard.writeText(part.textContent);
      said.textContent = "Copied.";
    } catch { // browsers may refuse, most of all on pages that were opened from disk
      getSelection().selectAllChildren(part);
      said.textContent = "Selected: press Ctrl+C, or ⌘C.";
    }
    setTimeout(() => { said.textContent = ""; }, 4000);
  });
}
const folded = [];
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open], .folded)")) {
    folded.push(part);
    part.open = true;
  }
});
addEventListener("afterprint", () => {
  for (const part of folded.splice(0)) part.open = false;
});
