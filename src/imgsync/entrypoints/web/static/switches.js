// Of two switches that exclude each other, turning one on turns the other off at once; without
// scripts the server does so when the form is saved.
"use strict";
for (const form of document.querySelectorAll("form[data-one-of]")) {
  const switches = [...form.querySelectorAll(".switch input")];
  const turnedOn = (one) => {
    for (const other of switches) {
      if (other !== one) other.checked = false;
    }
  };
  // Somebody may have been faster than this script.
  const early = switches.find((one) => one.checked && !one.defaultChecked);
  if (early) turnedOn(early);
  form.addEventListener("change", ({ target }) => {
    if (switches.includes(target) && target.checked) turnedOn(target);
  });
}
