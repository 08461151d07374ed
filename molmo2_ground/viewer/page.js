"use strict";
// A click on a time, a dot or a frame shows that moment in the video.
const film = document.querySelector("video");
if (film) {
  document.body.classList.add("jumps");
  document.addEventListener("click", (event) => {
    const place = event.target.closest("[data-time]");
    if (!place) return;
    film.currentTime = Number(place.dataset.time) + 0.001;
    film.scrollIntoView({ block: "nearest", behavior: "smooth" });
  });
}
