// Before anything is drawn: the theme chosen last time, if the browser keeps such things for files.
try {
  const theme = localStorage.getItem("covr-bench-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch (error) {
  console.debug("the theme is not remembered", error);
}
