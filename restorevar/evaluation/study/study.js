// One question after the other; every click is kept. What is downloaded names the rater, the study and, for each question
// and place on the page, the points. Whose picture stands at which place is not known here.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const slot = `blind-study-${data.study}`;
  const letter = (place) => String.fromCharCode(65 + place);

  let kept = {last: "", raters: {}};
  let rater = "";
  let order = [];
  let at = 0;

  // ------------------------------------------------------------------------------------------------ memory

  function load() {
    try {
      const found = JSON.parse(localStorage.getItem(slot));
      if (found && found.raters) kept = found;
      // Whether anything can be kept; not in the slot itself, which another page may have filled a moment ago.
      localStorage.setItem(`${slot}-probe`, "");
      localStorage.removeItem(`${slot}-probe`);
    } catch {
      find("storage").hidden = false;
    }
  }

  function save() {
    try {
      localStorage.setItem(slot, JSON.stringify(kept));
    } catch {
      find("storage").hidden = false;
    }
  }

  const answers = () => kept.raters[rater].answers;
  const given = (question, place) => answers()[question.id]?.[place] ?? {};
  const isRated = (question, place) => data.criteria.every((c) => given(question, place)[c.id]);
  const isDone = (question) => question.outputs.every((_, place) => isRated(question, place));
  const open = () => data.questions.filter((question) => !isDone(question)).length;

  // ------------------------------------------------------------------------------------------------- order

  // Everybody has an own order of questions, the same one after every pause: whoever tires does so elsewhere.
  function shuffled(text) {
    let state = 2166136261;
    for (const unit of text) state = Math.imul(state ^ unit.codePointAt(0), 16777619) >>> 0;
    const draw = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
    const list = [...data.questions];
    for (let i = list.length - 1; i > 0; i--) {
      const j = Math.floor(draw() * (i + 1));
      [list[i], list[j]] = [list[j], list[i]];
    }
    return list;
  }

  // ------------------------------------------------------------------------------------------------- pages

  const make = (tag, properties, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };

  function picture(src, label, question) {
    const image = make("img", {src, alt: label, width: question.width, height: question.height});
    return make("button", {type: "button", className: "picture", onclick: () => enlarge(question, label)}, image);
  }

  function enlarge(question, label) {
    const afters = question.outputs.map((src, place) => ({label: `picture ${letter(place)}`, src}));
    const index = Math.max(0, afters.findIndex((after) => after.label === label));
    openViewer({before: {label: "original", src: question.input}, afters, index, split: 0});
  }

  function scale(question, place, criterion) {
    const name = `${question.id}-${place}-${criterion.id}`;
    const choices = Array.from({length: data.points}, (_, i) => {
      const input = make("input", {type: "radio", name, value: i + 1, checked: given(question, place)[criterion.id] === i + 1});
      input.onchange = () => rate(question, place, criterion, i + 1);
      return make("label", {}, String(i + 1), input);
    });
    return make(
      "fieldset",
      {},
      make("legend", {textContent: criterion.question}),
      make("div", {className: "scale"}, ...choices),
      make(
        "div",
        {className: "ends", ariaHidden: "true"},
        make("span", {textContent: criterion.low}),
        make("span", {textContent: criterion.high}),
      ),
    );
  }

  function rate(question, place, criterion, points) {
    const own = (answers()[question.id] ??= {});
    (own[place] ??= {})[criterion.id] = points;
    save();
    tell();
  }

  function show(index) {
    at = Math.max(0, Math.min(order.length - 1, index));
    kept.raters[rater].at = at;
    save();
    const question = order[at];
    const original = make("article", {}, make("h3", {textContent: "Original"}), picture(question.input, "original", question));
    const others = question.outputs.map((src, place) =>
      make(
        "article",
        {className: "rated"},
        make("h3", {textContent: `Picture ${letter(place)}`}),
        picture(src, `picture ${letter(place)}`, question),
        ...data.criteria.map((criterion) => scale(question, place, criterion)),
      ),
    );
    find("question").replaceChildren(make("div", {className: "pictures"}, original, ...others));
    find("heading").textContent = `Photograph ${at + 1} of ${order.length}`;
    tell();
  }

  function tell() {
    const question = order[at];
    document.querySelectorAll("article.rated").forEach((node, place) => node.classList.toggle("open", !isRated(question, place)));
    find("place").textContent = `${order.length - open()} of ${order.length} rated`;
    find("done").max = order.length;
    find("done").value = order.length - open();
    find("previous").disabled = at === 0;
    find("next").disabled = find("further").disabled = at === order.length - 1;
    find("left").textContent = open() ? `${open()} photographs are still to be rated.` : "All rated, thank you. Please download.";
    find("download").classList.toggle("main", !open());
  }

  function go(index) {
    show(index);
    find("heading").focus();
    scrollTo(0, 0);
  }

  // -------------------------------------------------------------------------------------------------- ends

  find("enter").onsubmit = (event) => {
    event.preventDefault();
    rater = find("rater").value.trim();
    if (!rater) return;
    kept.last = rater;
    kept.raters[rater] ??= {answers: {}, at: 0};
    order = shuffled(`${data.study}/${rater}`);
    find("start").hidden = true;
    find("work").hidden = false;
    go(kept.raters[rater].at ?? 0);
  };

  find("previous").onclick = () => go(at - 1);
  find("next").onclick = find("further").onclick = () => go(at + 1);

  find("download").onclick = () => {
    const result = {
      format: "blind-study-ratings-1",
      study: data.study,
      rater,
      date: new Date().toISOString(),
      open: open(),
      answers: answers(),
    };
    const url = URL.createObjectURL(new Blob([JSON.stringify(result, null, 1)], {type: "application/json"}));
    const name = rater.replace(/[^\p{L}\p{N}_-]+/gu, "_");
    make("a", {href: url, download: `ratings-${name}.json`}).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };

  load();
  find("rater").value = kept.last;
})();
