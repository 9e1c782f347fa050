(async () => {
  const $ = (id) => document.getElementById(id);
  const told = $("told");
  if (typeof RECORDS === "undefined") {
    told.textContent = "records.js, which belongs beside this page, is not there: the folder is not whole.";
    return;
  }
  const { dataset, split, records, classes, members, runs } = RECORDS;
  const [height, width] = RECORDS.image;
  const [across, down] = RECORDS.sheet;
  const GAP = 2, SIDE = 56, MOST_SIDE = 112, LARGE = 280; // pixels of CSS
  const MOST_HELD = 400e6 / (across * width * down * height * 4); // sheets, decoded

  // --- The data: of each record that is shown, by its place among them ---------------------------

  async function unpacked(text, Kind) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Kind(await new Response(stream).arrayBuffer());
  }
  const labels = await unpacked(RECORDS.label, {{ label_arrays[0] }});
  const coarse = RECORDS.coarse_label ? await unpacked(RECORDS.coarse_label, {{ label_arrays[1] }}) : null;
  const distances = await unpacked(RECORDS.distances, Float32Array);
  const indices = RECORDS.indices ? await unpacked(RECORDS.indices, Uint32Array) : Uint32Array.from(labels.keys());
  const byDistance = Uint32Array.from(labels.keys()).sort((a, b) => distances[a] - distances[b] || a - b);
  const ofClass = new Uint32Array(classes.length); // how many
  const ranks = new Uint32Array(labels.length); // within its class, the nearest to the mean first
  for (const at of byDistance) ranks[at] = ++ofClass[labels[at]];

  const number = (value) => value.toLocaleString("en-US");
  const named = (names, label) => (names[label] === String(label) ? names[label] : `${label} · ${names[label]}`);

  // The place of the first record whose index is not below this one.
  function placeOf(index) {
    let low = 0, high = indices.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (indices[middle] < index) low = middle + 1; else high = middle;
    }
    return low;
  }

  // --- Sheets: loaded when a record on one is to be drawn -----------------------------------------

  const sheets = new Map(); // number → {bitmap, drawn}, the one that was drawn longest ago first
  let drawing = 0; // counts the times that something was drawn

  function sheetOf(at) {
    const which = Math.floor(at / (across * down));
    let sheet = sheets.get(which);
    if (!sheet) {
      sheet = load(which);
    } else {
      sheets.delete(which); // to the end
    }
    sheets.set(which, sheet);
    sheet.drawn = drawing;
    return sheet;
  }

  function load(which) {
    const sheet = { bitmap: null, drawn: drawing }, image = new Image(), file = `${String(which).padStart(3, "0")}.png`;
    image.src = file;
    image.decode().then(() => createImageBitmap(image)).then((bitmap) => {
      sheet.bitmap = bitmap;
      drawSoon();
    }, () => { told.textContent = `${file}, which belongs beside this page, can't be read: the folder is not whole.`; });
    for (const [old, { bitmap, drawn }] of sheets) { // all that is in sight stays, however much it is
      if (sheets.size < MOST_HELD || drawn >= drawing - 1) break;
      bitmap?.close();
      sheets.delete(old);
    }
    return sheet;
  }

  // Draws a record; where its sheet is still to come, its place in grey.
  function paint(context, at, x, y, wide, tall) {
    const { bitmap } = sheetOf(at), on = at % (across * down);
    if (bitmap) {
      context.drawImage(bitmap, (on % across) * width, Math.floor(on / across) * height, width, height, x, y, wide, tall);
    } else {
      context.fillStyle = grey;
      context.fillRect(x, y, wide, tall);
    }
  }

  // --- The list: those of a class (or all) in an order, of which one is chosen ---------------------

  const list = $("records"), room = $("room"), seen = $("seen"), pen = seen.getContext("2d");
  let shown = [], chosen = 0; // places; and which of them
  let wide, tall, columns, left, ratio, grey; // of a cell; of the list
  let option = null;

  function arrange() {
    const label = Number($("class").value), order = $("order").value;
    const all = order === "index" ? Uint32Array.from(labels.keys()) : order === "nearest" ? byDistance : byDistance.toReversed?.() ?? byDistance.slice().reverse();
    shown = label < 0 ? all : all.filter((at) => labels[at] === label);
    chosen = 0;
    measure();
  }

  function say() {
    const label = Number($("class").value), order = $("order").selectedOptions[0].textContent;
    told.textContent = `${number(shown.length)} record${shown.length === 1 ? "" : "s"}${label < 0 ? "" : ` of class ${named(classes, label)}`}, ${order}`;
  }

  function measure() {
    const longer = Math.max(height, width);
    const scale = longer * 2 > SIDE * 1.5 ? Math.min(1, MOST_SIDE / longer) : Math.round(SIDE / longer);
    [wide, tall] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
    ratio = devicePixelRatio;
    columns = Math.max(1, Math.floor((list.clientWidth - GAP) / (wide + GAP)));
    left = Math.max(GAP, Math.floor((list.clientWidth - columns * (wide + GAP) + GAP) / 2));
    room.style.height = `${Math.max(list.clientHeight, Math.ceil(shown.length / columns) * (tall + GAP) + GAP)}px`;
    seen.width = Math.round(list.clientWidth * ratio);
    seen.height = Math.round(list.clientHeight * ratio);
    seen.style.width = `${list.clientWidth}px`;
    seen.style.height = `${list.clientHeight}px`;
    grey = getComputedStyle(document.documentElement).getPropertyValue("--rule");
    mark();
    drawSoon();
  }

  const cell = (which) => [left + (which % columns) * (wide + GAP), GAP + Math.floor(which / columns) * (tall + GAP)];

  let awaited = 0;
  function drawSoon() {
    awaited ||= requestAnimationFrame(() => {
      awaited = 0;
      drawing++;
      draw();
    });
  }

  function draw() {
    const top = list.scrollTop, whole = (value) => Math.round(value * ratio);
    pen.imageSmoothingEnabled = wide < width;
    pen.clearRect(0, 0, seen.width, seen.height);
    const first = Math.max(0, Math.floor((top - GAP) / (tall + GAP))) * columns;
    const end = Math.min(shown.length, Math.ceil((top + list.clientHeight) / (tall + GAP)) * columns);
    for (let which = first; which < end; which++) {
      const [x, y] = cell(which);
      paint(pen, shown[which], whole(x), whole(y - top), whole(wide), whole(tall));
    }
    tellLarge();
    if (end < shown.length && sheets.size < MOST_HELD && ![...sheets.values()].some(({ bitmap }) => !bitmap)) {
      const next = shown[Math.min(shown.length - 1, end + columns * 12)]; // where the eye will be soon
      sheetOf(next);
    }
  }

  // The chosen record is an option of the list, for keys and screen readers, and lies over its picture.
  function mark() {
    option?.remove();
    if (!shown.length) {
      list.removeAttribute("aria-activedescendant");
      return;
    }
    option = document.createElement("div");
    const at = shown[chosen], [x, y] = cell(chosen);
    option.id = `record-${indices[at]}`; // another one, so that it is read out
    option.role = "option";
    option.ariaSelected = "true";
    option.ariaSetSize = shown.length;
    option.ariaPosInSet = chosen + 1;
    option.ariaLabel = `Record ${number(indices[at])}: class ${named(classes, labels[at])}`;
    Object.assign(option.style, { left: `${x}px`, top: `${y}px`, width: `${wide}px`, height: `${tall}px` });
    room.append(option);
    list.setAttribute("aria-activedescendant", option.id);
  }

  function reveal() {
    const [, y] = cell(chosen);
    if (y - GAP < list.scrollTop) list.scrollTop = y - GAP;
    else if (y + tall + GAP > list.scrollTop + list.clientHeight) list.scrollTop = y + tall + GAP - list.clientHeight;
  }

  let addressed = 0;
  function choose(which, { quietly = false } = {}) {
    if (!shown.length) return;
    chosen = Math.min(Math.max(0, which), shown.length - 1);
    mark();
    reveal();
    tell();
    drawSoon();
    clearTimeout(addressed); // browsers allow few changes of the address a second
    if (!quietly) addressed = setTimeout(() => history.replaceState(null, "", `#${encodeURIComponent(split)}:${indices[shown[chosen]]}`), 300);
  }

  // --- What is told of a record --------------------------------------------------------------------

  function definitions(facts) {
    return facts.flatMap(([name, value]) => {
      const parts = [document.createElement("dt"), document.createElement("dd")];
      [parts[0].textContent, parts[1].textContent] = [name, value];
      return parts;
    });
  }

  function tell() {
    const at = shown[chosen], index = indices[at], label = labels[at];
    $("name").textContent = `Record ${number(index)}`;
    $("large").ariaLabel = `Record ${number(index)}, enlarged: class ${named(classes, label)}`;
    $("facts").replaceChildren(...definitions([
      ["Class", named(classes, label)],
      ...(coarse ? [["Coarse class", named(RECORDS.coarse_classes, coarse[at])]] : []),
      ["Distance", `${distances[at].toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} from its class mean`],
      ["Rank", `${number(ranks[at])} of ${number(ofClass[label])}, nearest first`],
    ]));
    let low = 0, high = runs.length; // the last run that does not begin after this record
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (runs[middle].index <= index) low = middle; else high = middle;
    }
    $("places").replaceChildren(...runs[low].parts.map((part) => {
      const facts = document.createElement("dl"), { archive, path } = members[part.member];
      const start = part.start + part.step * (index - runs[low].index);
      facts.append(...definitions([
        ["What", part.what],
        ["Archive", archive],
        ...(path ? [["Member", path]] : []),
        ["Bytes", `${number(start)} to ${number(start + part.bytes)}`],
      ]));
      return facts;
    }));
    $("trace").firstElementChild.textContent = `python -m assets trace ${dataset}/${split}:${index}`;
    const had = document.activeElement;
    $("previous").disabled = chosen === 0;
    $("next").disabled = chosen === shown.length - 1;
    if (had?.disabled) $("name").focus(); // a button that can't be pressed any more loses the keyboard
  }

  function tellLarge() {
    if (!shown.length) return;
    const large = $("large"), scale = Math.max(1, Math.floor(LARGE / Math.max(height, width)));
    if (large.width !== width * scale) [large.width, large.height] = [width * scale, height * scale];
    const context = large.getContext("2d");
    context.imageSmoothingEnabled = false;
    paint(context, shown[chosen], 0, 0, large.width, large.height);
  }

  // --- What people do --------------------------------------------------------------------------------

  const main = document.querySelector("main");
  const open = () => { if (!main.classList.contains("open")) { main.classList.add("open"); measure(); reveal(); } };
  const close = () => { main.classList.remove("open"); measure(); list.focus(); };

  function rearrange() {
    arrange();
    list.scrollTop = 0;
    choose(0);
    say();
  }

  // Shows the record that a text names: an index, perhaps behind the split.
  function jump(text, { quietly = false } = {}) {
    const found = /^(?:(.*):)?([\d,. _]+)$/.exec(text.trim());
    const index = found ? Number(found[2].replace(/\D/g, "")) : NaN;
    if (!found || (found[1] !== undefined && found[1] !== split) || index >= records) {
      told.textContent = `There is no record ${text.trim()} here: ${split} has records 0 to ${number(records - 1)}.`;
      return false;
    }
    const at = placeOf(index);
    if (indices[at] !== index) {
      told.textContent = `Record ${number(index)} is not among the ${number(indices.length)} that are shown. Trace it: python -m assets trace ${dataset}/${split}:${index}`;
      return false;
    }
    const label = Number($("class").value);
    if (label >= 0 && labels[at] !== label) {
      $("class").value = -1;
      arrange();
    }
    choose(shown.indexOf(at), { quietly });
    list.scrollTop = cell(chosen)[1] - (list.clientHeight - tall) / 2;
    say();
    open();
    return true;
  }

  $("class").addEventListener("change", rearrange);
  $("order").addEventListener("change", rearrange);
  $("wanted").addEventListener("submit", (event) => {
    event.preventDefault();
    if (jump($("index").value)) list.focus({ preventScroll: true });
  });
  $("previous").addEventListener("click", () => choose(chosen - 1));
  $("next").addEventListener("click", () => choose(chosen + 1));
  $("close").addEventListener("click", close);
  $("record").addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  list.addEventListener("scroll", drawSoon, { passive: true });
  list.addEventListener("click", ({ clientX, clientY }) => {
    const box = list.getBoundingClientRect();
    const column = Math.floor((clientX - box.left - left) / (wide + GAP));
    const row = Math.floor((clientY - box.top + list.scrollTop - GAP) / (tall + GAP));
    const which = row * columns + column;
    if (column < 0 || column >= columns || row < 0 || which >= shown.length) return;
    choose(which);
    open();
    reveal();
  });
  list.addEventListener("keydown", (event) => {
    const page = columns * Math.max(1, Math.floor(list.clientHeight / (tall + GAP)));
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) {
      choose(chosen + steps[event.key]);
    } else if (event.key === "Enter" || event.key === " ") {
      open();
      $("name").focus();
    } else {
      return;
    }
    event.preventDefault();
  });
  function follow() { // the address
    let text = location.hash.slice(1);
    try { text = decodeURIComponent(text); } catch { /* what it says is no record then */ }
    if (text) jump(text, { quietly: true });
  }
  addEventListener("hashchange", follow);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", measure);
  new ResizeObserver(measure).observe(list);

  arrange();
  choose(0, { quietly: true });
  say();
  follow();
})();
