// Mends what the theme and the extensions leave wrong for keyboards and screen readers.
document.addEventListener("DOMContentLoaded", () => {
  const each = (selector, mend) => document.querySelectorAll(selector).forEach(mend);

  // The name that is spoken must contain the words that are seen.
  each("details > summary[aria-label], .search-button-field[aria-label]", (element) => element.removeAttribute("aria-label"));

  // The three icons of the colour switch are no words: the button has a name of its own.
  each(".theme-switch", (icon) => {
    icon.setAttribute("aria-hidden", "true");
    icon.removeAttribute("title");
    icon.querySelector("title")?.remove();
  });

  // A bibliography is said to be a list, but its entries are not said to be items.
  each(".citation-list", (list) => {
    list.removeAttribute("role");
    list.querySelectorAll("[role=doc-biblioentry]").forEach((entry) => entry.removeAttribute("role"));
  });

  // The title above the sidebar stands outside every landmark.
  each(".bd-sidebar-primary .sidebar-primary-item:has(> .navbar-brand)", (item) => {
    item.setAttribute("role", "navigation");
    item.setAttribute("aria-label", "Title page");
  });
});
