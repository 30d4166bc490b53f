// The photo, and over it what was made of it: the restored one, or a map. The slider tells where they meet.
"use strict";

const LEGENDS = {
  after: "Drag, or use the arrow keys: your photo is left of the line, the restored one right of it.",
  change: "Dark: left as it was. Bright: changed most.",
  sure: "Bright: where it was surest. Dark: where it had to guess most; look closely there before you trust it.",
};
const LABELS = {after: "after", change: "what changed", sure: "how sure"};

const stage = {photo: null, view: "after", split: {}};

function parts() {
  const root = document.getElementById("stage");
  return Object.fromEntries(
    Object.entries({
      root: null,
      stack: ".stack",
      before: ".before",
      after: ".after",
      split: ".split",
      left: ".tag.left",
      right: ".tag.right",
      ramp: ".ramp",
      legend: ".legend .text",
    }).map(([name, selector]) => [name, selector ? root.querySelector(selector) : root]),
  );
}

function drawStage(photo) {
  const p = parts();
  const isNew = stage.photo?.id !== photo.id;
  stage.photo = photo;
  const finished = photo.state === "done" && Boolean(photo.after);
  const view = finished && photo[stage.view] ? stage.view : "after";
  const over = finished ? photo[view] : photo.preview;
  p.root.dataset.state = photo.state;
  setSource(p.before, photo.before);
  p.before.alt = `${photo.name}, before`;
  setSource(p.after, over, isNew);
  p.after.alt = `${photo.name}, ${LABELS[view]}`;
  p.stack.style.setProperty("--aspect", photo.width && photo.height ? photo.width / photo.height : 1.5);
  p.stack.classList.toggle("rough", !finished && Boolean(over));
  p.split.disabled = !finished;
  p.right.textContent = LABELS[view];
  setSplit(finished ? (stage.split[photo.id] ?? 50) : 0);
  for (const radio of p.root.querySelectorAll("input[name=view]")) {
    radio.closest("label").hidden = !photo[radio.value];
    radio.checked = radio.value === view;
  }
  p.ramp.hidden = !finished || view === "after";
  p.legend.textContent = finished ? [LEGENDS[view], photo.about?.[view]].filter(Boolean).join(" ") : "";
}

// What is shown stays until the next picture has come.
function setSource(image, source, atOnce = false) {
  const wanted = source ?? "";
  if (image.dataset.wanted === wanted) return;
  image.dataset.wanted = wanted;
  if (!wanted || atOnce) image.hidden = true;
  if (!wanted) return image.removeAttribute("src");
  const next = new Image();
  next.onload = () => {
    if (image.dataset.wanted !== wanted) return;
    image.src = wanted;
    image.hidden = false;
  };
  next.src = wanted;
}

function setSplit(percent) {
  const p = parts();
  p.split.value = percent;
  p.stack.style.setProperty("--split", `${percent}%`);
  p.split.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % ${p.right.textContent}`);
}

function zoom(photo) {
  if (photo?.state !== "done") return;
  const views = Object.keys(LABELS).filter((view) => photo[view]);
  openViewer({
    title: photo.name,
    before: {label: "before", src: photo.before},
    afters: views.map((view) => ({label: LABELS[view], src: photo[view]})),
    index: Math.max(0, views.indexOf(stage.view)),
    split: parts().split.value,
  }).catch(console.error);
}

document.addEventListener("input", (event) => {
  if (event.target.matches("#stage .split")) {
    stage.split[stage.photo?.id] = Number(event.target.value);
    setSplit(Number(event.target.value));
  } else if (event.target.matches("#stage input[name=view]")) {
    stage.view = event.target.value;
    drawStage(stage.photo);
  }
});
document.addEventListener("dblclick", (event) => {
  if (event.target.matches("#stage .split")) zoom(stage.photo);
});
