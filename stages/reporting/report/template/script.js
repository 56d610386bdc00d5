"use strict";
// Clicking an overlay enlarges it to the window; a click or Escape closes it.
const box = document.querySelector("dialog");
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.picture");
  if (button) {
    const small = button.querySelector("img");
    const large = box.querySelector("img");
    large.src = small.src;
    large.alt = small.alt;
    box.querySelector("p").textContent = button.closest("figure").querySelector("figcaption").textContent;
    box.showModal();
  } else if (event.target.closest("dialog")) {
    box.close();
  }
});
