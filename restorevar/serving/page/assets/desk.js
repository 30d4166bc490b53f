// The page's own part: files go up, the visit's view comes down, and what it says is shown.
//
// Given by Gradio: trigger("ask", data) asks the server (asking.py), upload(file) sends one, watch and props.value
// bring the view (visit.py tells what is in it). Elements of the other parts are found by their ids.
"use strict";

const byId = (id) => document.getElementById(id);
const state = {visit: recall(), photos: [], chosen: null, notes: [], error: ""};

// Other tabs have visits of their own; a reloaded page goes on with its own.
function recall() {
  try {
    return sessionStorage.getItem("restorevar-visit");
  } catch {
    return null; // storage may be switched off
  }
}

function remember(key) {
  state.visit = key;
  try {
    sessionStorage.setItem("restorevar-visit", key);
  } catch {
    // then a reloaded page begins anew
  }
}

const ask = (what, data = {}) => trigger("ask", {what, visit: state.visit, ...data});
const chosen = () => state.photos.find((photo) => photo.id === state.chosen);

// ------------------------------------------------------------------------------------------------ the view arrives

function take(view) {
  if (!view || !view.visit) return;
  remember(view.visit);
  const known = new Set(state.photos.map((photo) => photo.id));
  const fresh = view.photos.filter((photo) => !known.has(photo.id));
  for (const photo of view.photos) announce(photo, state.photos.find((other) => other.id === photo.id));
  state.photos = view.photos;
  if (view.error && view.error !== state.error) {
    state.notes.push({name: view.error, text: "not taken", failed: true});
    say(view.error);
  }
  state.error = view.error;
  if (!chosen() || fresh.length) choose((fresh[0] ?? view.photos[0])?.id);
  else draw();
}

function announce(photo, before) {
  if (before?.state !== photo.state) say(photo.sentence);
}

function say(text) {
  byId("told").textContent = text;
}

function choose(id) {
  state.chosen = id;
  draw();
}

function draw() {
  const photo = chosen();
  document.body.classList.toggle("has-photos", Boolean(photo) || state.notes.length > 0);
  drawStrip(state.photos, state.notes, state.chosen);
  document.body.classList.toggle("has-chosen", Boolean(photo));
  if (!photo) return;
  drawStage(photo);
  drawPanel(photo);
}

// -------------------------------------------------------------------------------------------------------- files

// One after the other, so that the first is worked on while the others come.
async function send(files) {
  const most = Number(byId("welcome").dataset.most);
  const notes = [...files].map((file) => ({file, name: file.name, text: "is on its way", failed: false}));
  state.notes.push(...notes);
  draw();
  for (const note of notes) {
    try {
      if (note.file.size > most) throw new RangeError();
      const sent = await upload(note.file);
      if (!sent?.path) throw new Error("not taken");
      ask("add", {sent: sent.path, name: note.name}); // "path" would make it a file of Gradio's
      state.notes.splice(state.notes.indexOf(note), 1);
    } catch (error) {
      note.failed = true;
      note.text = error instanceof RangeError ? "is too large" : "could not be sent";
      say(`${note.name} ${note.text}.`);
    }
    draw();
  }
}

document.addEventListener("change", (event) => {
  if (!event.target.matches("input.files")) return;
  send(event.target.files).catch(console.error);
  event.target.value = ""; // the same file may be chosen again
});

let depth = 0; // entering a child comes before leaving its parent
const dragging = (step) => {
  depth = Math.max(0, step === 0 ? 0 : depth + step);
  document.body.classList.toggle("dragging", depth > 0);
};
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => holdsFiles(event) && dragging(1));
document.addEventListener("dragleave", (event) => holdsFiles(event) && dragging(-1));
document.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  dragging(0);
  send(event.dataTransfer.files).catch(console.error);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) send(event.clipboardData.files).catch(console.error);
});

// ------------------------------------------------------------------------------------------------------- buttons

const actions = {
  example: (button) => ask("example", {name: button.dataset.name}),
  choose: (button) => choose(button.dataset.id),
  dismiss: (button) => {
    state.notes.splice(Number(button.dataset.note), 1);
    draw();
  },
  cancel: () => ask("cancel", {id: state.chosen}),
  retry: () => ask("again", {id: state.chosen}),
  again: () => ask("again", {id: state.chosen}),
  anyway: () => ask("again", {id: state.chosen, anyway: true}),
  zoom: () => zoom(chosen()),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-act]");
  if (button && actions[button.dataset.act]) actions[button.dataset.act](button);
});

// A phone that slept has missed what came meanwhile.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && state.visit) ask("look");
});

watch("value", () => take(props.value));
ask("look");
