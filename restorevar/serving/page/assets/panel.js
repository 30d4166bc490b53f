// Beside the photo: what happens to it or has happened, the file to take home, what was seen in it.
"use strict";

function drawPanel(photo) {
  const root = document.getElementById("panel");
  const part = (selector) => root.querySelector(selector);
  const working = photo.state === "waiting" || photo.state === "working";
  root.dataset.state = photo.state;
  part(".name").textContent = photo.name;
  part(".facts").textContent = photo.facts;
  part(".sentence").textContent = photo.sentence;
  part(".sentence").classList.toggle("warn", photo.state === "failed");
  part(".doing").hidden = !working;
  const progress = part("progress");
  if (photo.state === "working") progress.value = photo.share;
  else progress.removeAttribute("value"); // nobody knows how long it waits
  const download = part("[data-act=download]");
  download.hidden = !photo.download;
  if (photo.download) {
    download.href = photo.download;
    download.download = photo.file;
    download.setAttribute("aria-label", `Download ${photo.file}`);
  }
  part("[data-act=anyway]").hidden = !photo.untouched;
  part("[data-act=retry]").hidden = !(photo.state === "cancelled" || (photo.state === "failed" && photo.again));
  drawReport(part(".report"), photo.report);
  document.body.classList.toggle("can-again", Boolean(photo.again) && !working);
}

// A bar for the eye, a word for everybody.
function drawReport(root, report) {
  root.hidden = !report;
  if (!report) return;
  root.querySelector("p").textContent = report.sentence;
  const list = root.querySelector("ul");
  list.replaceChildren(
    ...report.rows.map(({name, word, share, seen}) => {
      const row = document.createElement("li");
      row.classList.toggle("seen", seen);
      const label = Object.assign(document.createElement("span"), {textContent: name});
      const bar = Object.assign(document.createElement("span"), {className: "bar"});
      bar.setAttribute("aria-hidden", "true");
      bar.style.setProperty("--share", share);
      const told = Object.assign(document.createElement("span"), {className: "word", textContent: word});
      row.append(label, bar, told);
      return row;
    }),
  );
}

// Gradio's fold does not say whether it is open.
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("#adjust > button");
  if (!button) return;
  requestAnimationFrame(() => {
    button.setAttribute("aria-expanded", String(getComputedStyle(button.nextElementSibling).display !== "none"));
  });
});
