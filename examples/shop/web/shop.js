const $ = (id) => document.getElementById(id);
const post = (path, body) => fetch(path, { method: "POST", headers: { Accept: "application/json" }, body });

function show(cart) {
  $("total").value = cart.total;
  $("sum").value = cart.sum;
  $("orders").value = cart.orders;
  for (const line of document.querySelectorAll("[data-sku]")) {
    const n = cart.items[line.dataset.sku] ?? 0, count = line.querySelector("output");
    line.hidden = n === 0;
    if (count.value !== String(n)) {
      count.value = n;
      line.classList.remove("new");
      void line.offsetWidth; // starts the animation again
      line.classList.add("new");
    }
  }
}

function note(text, link) {
  const p = document.createElement("p");
  p.className = "flash";
  p.textContent = text + " ";
  if (link) {
    const a = document.createElement("a");
    a.href = "/";
    a.textContent = link;
    p.append(a);
  }
  $("notes").replaceChildren(p);
}

function live(text, on) {
  $("live").textContent = text;
  $("live").classList.toggle("on", on);
}

// A tab that sends a form is about to show another page. A reload now would throw away the answer, and the cookie in it.
let leaving = false;
document.addEventListener("submit", (event) => { leaving ||= !event.defaultPrevented; });

// The cart as it changes, in whichever tab.
const events = new EventSource("/events");
events.onmessage = (e) => { live("live", true); show(JSON.parse(e.data)); };
events.onerror = () => live("connecting", false);
events.addEventListener("renewed", () => { // a login in another tab: this one goes on with its cookie
  events.close();
  if (!leaving) location.reload();
});
events.addEventListener("ended", () => {
  events.close();
  if (leaving) return;
  live("logged out", false);
  document.body.classList.add("ended");
  note("This session has ended.", "Start again");
});

// Adding needs no new page.
for (const form of document.querySelectorAll("form.article")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await post("/add", new URLSearchParams(new FormData(form)));
    if (!answer.ok) note(await answer.text());
  });
}

// The race. A dot turns pale when its request was answered, and at the end dark if it counted, red if it was lost.
const requests = 200, sides = ["loadsave", "sessile"];
function lay(side) {
  $("dots-" + side).replaceChildren(...Array.from({ length: requests }, () => document.createElement("i")));
}
sides.forEach(lay);

async function run(side, refused) {
  const dots = $("dots-" + side).children;
  let answered = 0;
  await Promise.all(Array.from({ length: requests }, async () => {
    const answer = await post("/race/" + side).catch(() => null);
    if (!answer?.ok) { refused[side]++; return; }
    dots[answered++].className = "answered";
    $(side).textContent = `${answered} answered`;
  }));
}

$("race").addEventListener("click", async () => {
  $("race").disabled = true;
  for (const side of sides) { lay(side); $(side).textContent = "…"; }
  try {
    const started = await post("/race/start");
    if (!started.ok) throw new Error(await started.text());
    const refused = { loadsave: 0, sessile: 0 };
    await Promise.all(sides.map((side) => run(side, refused)));
    const result = await fetch("/race/result");
    if (!result.ok) throw new Error(await result.text());
    const got = await result.json();
    for (const side of sides) {
      const answered = requests - refused[side];
      [...$("dots-" + side).children].forEach((dot, i) => { dot.className = i < got[side] ? "counted" : i < answered ? "lost" : ""; });
      $(side).textContent = `${got[side]} of ${requests} counted, ${answered - got[side]} lost`;
    }
  } catch (err) {
    note("The race did not finish: " + err.message);
  } finally {
    $("race").disabled = false;
  }
});
